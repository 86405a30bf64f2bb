//! The sample's published post: who reads it back has WordPress, its database and what lies between.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::operator::Operator;

pub struct Post {
    pub id: u64,
    pub title: String,
}

impl Post {
    /// As an operator's state remembers it since `up`.
    pub fn of(operator: &Operator) -> Result<Self> {
        let remembered: Value = serde_json::from_slice(&std::fs::read(operator.path(".kinstall/lab/wordpress.json"))?)?;
        let post = &remembered["post"];
        let (Some(id), Some(title)) = (post["id"].as_u64(), post["title"].as_str()) else {
            bail!("no post was published: {post}")
        };
        Ok(Self { id, title: title.to_owned() })
    }
}
