//! Whatever expression comes, it compiles or does not, and runs within its budget.
#![allow(clippy::unwrap_used)]

#[path = "../../machinery/tests/fuzzing/mod.rs"]
mod fuzzing;

use cel::{Budget, Env, Input, Schema, Val};
use fuzzing::{fuzz, mutated_text, object};

const EXPRESSIONS: &[&str] = &[
    "object.spec.replicas > 1 && object.metadata.name.startsWith('a')",
    "object.spec.containers.all(c, c.image.matches('^[a-z]+(:[0-9]+)?$') || has(c.ports))",
    "object.metadata.?labels['x'].orValue('y') in ['a', 'b', \"c\\u00e4\"]",
    "size(object.data) < 10u && duration('1h') > duration('10s') ? 1.5e3 : -0x10",
    "quantity('1Gi').isGreaterThan(quantity('500M')) && ip('10.0.0.1').family() == 4",
    "[1, 2, 3].map(x, [4, 5].map(y, x * y)).exists_one(l, l.sum() == 9)",
    "{'a': {'b': [null, true, b'bytes']}}.a.b[0] == dyn(object)",
    "timestamp('2020-01-01T00:00:00Z').getFullYear() % 4 == 0",
    "Object{metadata: Object.metadata{annotations: {'a': 'b'}}}",
    "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]",
    "object.spec.a.split(',').join('.').replace('a', 'b', 2).lowerAscii().format(['%s'])",
    "1 / 0 == 9223372036854775807 + 1",
    "!!!!!((((true))))",
];

#[test]
fn expressions() {
    let env = Env::new().with("object", Schema::dynamic()).with("oldObject", Schema::dynamic()).with_mutations();
    fuzz(6_000, |rng| {
        let text = mutated_text(rng, EXPRESSIONS);
        let Ok(program) = env.compile(&text) else { return };
        program.estimate(&env);
        let json = object(rng, 4);
        let input = Input { values: vec![("object", Val::dynamic(&json))], ..Input::default() };
        let mut budget = Budget(1_000_000);
        if let Ok(value) = program.run(&input, &mut budget) {
            let _ = cel::to_json(&value);
        }
    });
}

#[test]
fn deep_and_wide_expressions_end() {
    let env = Env::new().with("object", Schema::dynamic());
    let texts = [
        "(".repeat(100_000),
        "[".repeat(100_000),
        "!".repeat(100_000) + "true",
        "-".repeat(100_000) + "1",
        "a.".repeat(100_000) + "b",
        "1+".repeat(100_000) + "1",
        "true?".repeat(50_000),
        "{'a':".repeat(50_000),
        "[1].map(x,".repeat(2_000),
        "'".repeat(99_999),
    ];
    for text in texts {
        let Ok(program) = env.compile(&text) else { continue };
        program.estimate(&env);
        let _ = program.run(&Input::default(), &mut Budget(1_000_000));
    }
}
