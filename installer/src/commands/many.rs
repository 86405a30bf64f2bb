//! What is the same on many hosts is said once to people, who would not find the rest among a thousand such lines.

/// On fewer it is said of each.
const MANY: usize = 9;
/// So many of them are named.
const NAMED: usize = 3;

/// What is said of hosts: where that is the same of many, once, of all of them.
pub fn together<T: Clone + PartialEq>(said: Vec<(String, T)>) -> Vec<(String, T)> {
    if said.len() < MANY {
        return said;
    }
    let mut groups: Vec<(T, Vec<String>)> = Vec::new();
    for (host, what) in said {
        match groups.iter_mut().find(|(known, _)| *known == what) {
            Some((_, hosts)) => hosts.push(host),
            None => groups.push((what, vec![host])),
        }
    }
    let told = groups.into_iter().flat_map(|(what, hosts)| {
        let names = match hosts.len() < MANY {
            true => hosts,
            false => vec![format!("{} and {} more", hosts[..NAMED].join(", "), hosts.len() - NAMED)],
        };
        names.into_iter().map(move |names| (names, what.clone()))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_have_in_common_is_said_once_and_what_few_have_of_each() {
        let said = |count: usize| {
            let hosts = (1..=count).map(|index| (format!("h{index}"), if index == 2 { "else" } else { "same" }));
            together(hosts.collect())
        };
        let owned = |told: &[(&str, &'static str)]| {
            told.iter().map(|(host, what)| ((*host).to_owned(), *what)).collect::<Vec<_>>()
        };
        assert_eq!(said(10), owned(&[("h1, h3, h4 and 6 more", "same"), ("h2", "else")]));
        assert_eq!(said(3), owned(&[("h1", "same"), ("h2", "else"), ("h3", "same")]));
        assert_eq!(said(9).len(), 9, "eight are not many");
    }
}
