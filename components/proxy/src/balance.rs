//! Chains that spread connections over endpoints.

use std::time::Duration;

use netlink::nftables::{Data, Expr, Field, Rule, Set, SetRef, Table, Value, Verdict, key, matches::*};

use crate::select::Target;

/// Adds the chain `name`, which translates to one of the targets, and what it needs. `id` names the Service port.
pub fn add(table: &mut Table, name: &str, id: &str, targets: &[Target], affinity: Option<Duration>) {
    let rules = match affinity {
        None => vec![spread(targets)],
        Some(time) => sticky(table, id, targets, time),
    };
    table.chain(name, rules);
}

fn random(targets: &[Target]) -> Vec<Expr> {
    vec![Expr::Random { modulus: targets.len() as u32, reg: 0 }]
}

/// `dnat to numgen random mod N map { 0 : ip . port, … }`
fn spread(targets: &[Target]) -> Rule {
    if let [(ip, port)] = targets {
        return dnat_to(*ip, *port);
    }
    let mut map = Set::map(&[Field::Number], Value::Fields(vec![Field::Ipv4, Field::Port]));
    for (n, (ip, port)) in targets.iter().enumerate() {
        map.elements.insert(key::number(n as u32), Data::Fields(key::ip_port(*ip, *port)));
    }
    rule([random(targets), dnat_map(SetRef::Anonymous(Box::new(map)))])
}

/// Each endpoint remembers its clients in a set with a timeout; a client that is in one goes there again.
fn sticky(table: &mut Table, id: &str, targets: &[Target], time: Duration) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut choice = Set::map(&[Field::Number], Value::Verdict);
    for (n, (ip, port)) in targets.iter().enumerate() {
        // The time is in the name: a set cannot change its timeout.
        let clients = format!("clients/{}/{id}/{ip}/{port}", time.as_secs());
        let chain = format!("endpoint/{id}/{ip}/{port}");
        let mut set = Set::new(&[Field::Ipv4]);
        set.timeout = Some(time);
        rules.push(rule([load_source(0), in_set(&clients), goto(&chain)]));
        choice.elements.insert(key::number(n as u32), Data::Verdict(Verdict::Goto(chain.clone())));
        let remember = rule([load_source(0), vec![Expr::Remember { set: clients.clone(), reg: 0 }]]);
        table.chain(chain, vec![remember, dnat_to(*ip, *port)]);
        table.sets.insert(clients, set);
    }
    rules.push(rule([random(targets), take_verdict(SetRef::Anonymous(Box::new(choice)))]));
    rules
}
