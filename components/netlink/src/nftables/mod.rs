//! nftables tables as data, and the way from one to the next.
//!
//! A program says what its table should be (`Table`: chains, sets, elements, rules); `replace` makes it so whatever was
//! there before, `update` carries only the difference. Both are one kernel transaction: packets see the old table or the
//! new one, nothing between. Only the named table is touched.

mod batch;
mod diff;
mod encode;
mod expr;
mod model;

pub use batch::{Batch, value};
pub use diff::{Change, update};
pub use expr::{Cmp, Expr, Fib, Found, Meta, NatKind, SetRef, matches};
pub use model::{BaseChain, Chain, ChainKind, Data, Field, Hook, Rule, Set, Table, Value, Verdict, key};

use crate::{IgnoreMissing, Result};

/// Makes the table exactly this, whatever the kernel has under its name, in one transaction.
pub fn replace(table: &Table) -> Result<()> {
    let mut batch = Batch::new();
    batch.ensure_table(&table.name);
    batch.delete_table(&table.name);
    batch.create(table);
    batch.commit()
}

/// Creates the table unless one of that name exists; says whether it did.
pub fn create_if_missing(table: &Table) -> Result<bool> {
    let mut batch = Batch::new();
    batch.create_table_exclusively(&table.name);
    batch.create(table);
    match batch.commit() {
        Ok(()) => Ok(true),
        Err(error) if error.is_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes the table with everything in it; a missing table is fine.
pub fn delete(name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.delete_table(name);
    batch.commit().ignore_missing()
}
