//! Upstream's structures of flow schemas and priority levels, as messages show them (`pkg/apis/flowcontrol/types.go`).

use crate::structure::{
    Fields,
    Part::{Any, Each, Flag, Inner, Maybe, Number, Text},
};

const NAME: Fields = &[("Name", "name", Text)];
const ACCOUNT: Fields = &[("Namespace", "namespace", Text), ("Name", "name", Text)];
const SUBJECT: Fields = &[
    ("Kind", "kind", Text),
    ("User", "user", Maybe(NAME)),
    ("Group", "group", Maybe(NAME)),
    ("ServiceAccount", "serviceAccount", Maybe(ACCOUNT)),
];
const RESOURCE_RULE: Fields = &[
    ("Verbs", "verbs", Any),
    ("APIGroups", "apiGroups", Any),
    ("Resources", "resources", Any),
    ("ClusterScope", "clusterScope", Flag),
    ("Namespaces", "namespaces", Any),
];
const URL_RULE: Fields = &[("Verbs", "verbs", Any), ("NonResourceURLs", "nonResourceURLs", Any)];
const RULE: Fields = &[
    ("Subjects", "subjects", Each(SUBJECT)),
    ("ResourceRules", "resourceRules", Each(RESOURCE_RULE)),
    ("NonResourceRules", "nonResourceRules", Each(URL_RULE)),
];
pub(super) const METHOD: Fields = &[("Type", "type", Text)];
pub(super) const SCHEMA: Fields = &[
    ("PriorityLevelConfiguration", "priorityLevelConfiguration", Inner(NAME)),
    ("MatchingPrecedence", "matchingPrecedence", Number),
    ("DistinguisherMethod", "distinguisherMethod", Maybe(METHOD)),
    ("Rules", "rules", Each(RULE)),
];

const QUEUING: Fields =
    &[("Queues", "queues", Number), ("HandSize", "handSize", Number), ("QueueLengthLimit", "queueLengthLimit", Number)];
const RESPONSE: Fields = &[("Type", "type", Text), ("Queuing", "queuing", Maybe(QUEUING))];
const LIMITED: Fields = &[
    ("NominalConcurrencyShares", "nominalConcurrencyShares", Number),
    ("LimitResponse", "limitResponse", Inner(RESPONSE)),
    ("LendablePercent", "lendablePercent", Any),
    ("BorrowingLimitPercent", "borrowingLimitPercent", Any),
];
const EXEMPT: Fields =
    &[("NominalConcurrencyShares", "nominalConcurrencyShares", Any), ("LendablePercent", "lendablePercent", Any)];
pub(super) const LEVEL: Fields =
    &[("Type", "type", Text), ("Limited", "limited", Maybe(LIMITED)), ("Exempt", "exempt", Maybe(EXEMPT))];
