//! Expressions and what they give, as tables.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use cel::{Authorize, Budget, Check, Decision, Env, Input, Schema, Shape, Val, to_json};
use serde_json::{Value, json};

fn schema() -> Schema {
    let metadata = Schema::object("meta", [("name", Schema::string()), ("labels", Schema::map(Schema::string()))]);
    Schema::object(
        "object",
        [
            ("metadata", metadata),
            ("replicas", Schema::of(Shape::Int)),
            ("ratio", Schema::of(Shape::Double)),
            ("names", Schema::list(Schema::string())),
            ("since", Schema::of(Shape::Timestamp(false))),
            ("wait", Schema::of(Shape::Duration)),
            ("blob", Schema::of(Shape::Bytes)),
            ("any", Schema::dynamic()),
        ],
    )
}

fn object() -> Value {
    json!({
        "metadata": {"name": "web", "labels": {"app": "web", "a/b": "x"}},
        "replicas": 3, "ratio": 2, "names": ["b", "a", "c"], "since": "2024-02-29T12:30:45.5Z", "wait": "1h30m",
        "blob": "aGk=", "any": {"list": [1, 2.5, "x"], "nil": null, "big": 9007199254740993i64},
    })
}

struct Everybody;

impl Authorize for Everybody {
    fn decide(&self, check: &Check) -> Decision {
        let allowed = check.verb == "get" && check.resource == "pods" && check.account.is_none();
        Decision { allowed, reason: format!("{} {}", check.verb, check.resource), error: None }
    }
}

fn env() -> Env {
    let authorizer = Shape::Typed(cel::Type::Opaque("kubernetes.authorization.Authorizer"));
    Env::new().with("self", schema()).with("object", Schema::dynamic()).with("authorizer", Schema::of(authorizer))
}

fn run_with(budget: u64, source: &str) -> Result<Value, String> {
    let program = env().compile(source).map_err(|e| e.to_string())?;
    let (object, schema) = (object(), schema());
    let input = Input {
        values: vec![
            ("self", Val::read(&object, &schema)),
            ("object", Val::dynamic(&object)),
            ("authorizer", cel::authorizer()),
        ],
        variables: None,
        authorizer: Some(&Everybody),
    };
    let value = program.run(&input, &mut Budget(budget)).map_err(|f| f.message)?;
    Ok(to_json(&value).unwrap_or_else(|| json!("no JSON")))
}

fn run(source: &str) -> Result<Value, String> {
    run_with(u64::MAX, source)
}

#[track_caller]
fn all_true(sources: &[&str]) {
    for source in sources {
        assert_eq!(run(source), Ok(json!(true)), "{source}");
    }
}

#[track_caller]
fn faults(table: &[(&str, &str)]) {
    for (source, fault) in table {
        assert_eq!(run(source), Err((*fault).to_owned()), "{source}");
    }
}

#[track_caller]
fn refused(table: &[(&str, &str)]) {
    for (source, message) in table {
        let error = env().compile(source).expect_err(source).to_string();
        assert!(error.contains(message), "{source}: {error}");
    }
}

#[test]
fn literals_and_arithmetic() {
    all_true(&[
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "0x10 == 16 && 5u == 5u && 1e3 == 1000.0 && .5 == 0.5",
        "-9223372036854775808 < 0",
        "- 1 == 0 - 1 && --1 == 1 && !!true",
        "'a' + \"b\" == 'ab' && b'a' + b'b' == b'ab'",
        r"'\u00e9\x41\n\101' == 'éA' + '''
A'''",
        r"r'\d' == '\\d'",
        "'''a'b''' == \"a'b\"",
        "[1, 2] + [3] == [1, 2, 3]",
        "{'a': 1}['a'] == 1 && {1: 'x'}[1] == 'x' && {1: 'x'}[dyn(1u)] == 'x'",
        "1 == 1 // a comment",
        "1.0 + 2.0 == 3.0 && 7u - 2u == 5u",
        "true ? 1 == 1 : 1 / 0 == 1",
        "dyn(1) == 1.0 && dyn(1) == 1u && dyn(1) != 1.5 && dyn('1') != 1",
        "1 < 1.5 && 2u > 1 && 1.5 < 2u && dyn(9007199254740993) > 9007199254740992.0",
        "'b' > 'a' && b'b' >= b'a' && true > false",
        "[1, 2] != [2, 1] && {'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
        "null == null && self.any.nil == null",
    ]);
    faults(&[
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("0u - 1u == 0u", "unsigned integer overflow"),
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("-(-9223372036854775807 - 1) == 0", "integer overflow"),
        ("[1][3] == 1", "index out of bounds: 3"),
        ("{'a': 1}['b'] == 1", "no such key: b"),
        ("object.foo == 1", "no such key: foo"),
        ("dyn(1) + dyn('a') == 1", "no such overload"),
    ]);
}

#[test]
fn logic_gets_over_failures() {
    all_true(&[
        "true || object.foo",
        "object.foo || true",
        "!(object.foo && false)",
        "[1, 2, 3].exists(x, 1 / (x - 1) == 1)",
        "![1, 2].all(x, 1 / (x - 1) > 5 && x > 5)",
    ]);
    faults(&[("object.foo || false", "no such key: foo"), ("[1].all(x, 1 / (x - 1) == 1)", "division by zero")]);
}

#[test]
fn macros() {
    all_true(&[
        "has(self.metadata) && has(self.metadata.labels.app) && !has(self.metadata.labels.other) && !has(object.x)",
        "[1, 2].all(x, x > 0) && [1, 2].exists(x, x > 1) && [1, 2].exists_one(x, x > 1) && ![1, 2].existsOne(x, x > 0)",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "[1, 2, 3].filter(x, x % 2 == 1) == [1, 3]",
        "{'a': 1}.all(k, k == 'a') && {'a': 1, 'b': 2}.map(k, k).size() == 2",
        "[5, 6].all(i, v, v == i + 5) && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
        "[5, 6].transformList(i, v, i > 0, v + i) == [7]",
        "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}",
        "[[1, 2], [3]].map(l, l.map(x, x + 1)) == [[2, 3], [4]]",
        "[1, 2, 3].map(x, [x].filter(y, y > 1)).filter(l, l.size() > 0).size() == 2",
        "[].all(x, x > 1) && [].map(x, x) == []",
    ]);
    refused(&[
        ("[1].all(1, true)", "argument must be a simple name"),
        ("has(self)", "invalid argument to has() macro"),
        ("[1].all(x, 1)", "found no matching overload for '_&&_' applied to '(bool, int)'"),
        (
            "1.all(x, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
    ]);
}

#[test]
fn optional_values() {
    all_true(&[
        "self.?metadata.?name.orValue('none') == 'web'",
        "object.?nothing.?at.?all.orValue('none') == 'none'",
        "object.?metadata.labels.app == optional.of('web')",
        "!self.metadata.labels[?'other'].hasValue() && self.names[?9] == optional.none()",
        "optional.of(1).value() == 1 && optional.ofNonZeroValue('') == optional.none()",
        "optional.none().or(optional.of(2)).value() == 2",
        "self.?replicas.optMap(r, r + 1).orValue(0) == 4",
        "self.metadata.?labels.optFlatMap(l, l[?'app']).orValue('') == 'web'",
        "[?optional.none(), ?optional.of(1)] == [1] && {?'a': optional.none(), 'b': 2} == {'b': 2}",
        "has(object.?metadata.labels)",
    ]);
    faults(&[("optional.none().value() == 1", "optional.none() dereference")]);
}

#[test]
fn data_is_read_by_its_schema() {
    all_true(&[
        "self.ratio == 2.0 && type(self.ratio) == double && type(object.ratio) == int",
        "self.wait == duration('90m') && self.since.getFullYear() == 2024 && self.blob == b'hi'",
        "type(object.wait) == string && object.any.list[1] == 2.5",
        "'a' in self.names && 'app' in self.metadata.labels && !('x' in self.names)",
        "self.metadata.labels['a/b'] == 'x' && size(self.metadata.labels) == 2 && self.names.size() == 3",
        "object.any.big == 9007199254740993",
    ]);
}

#[test]
fn conversions_and_times() {
    all_true(&[
        "int('5') == 5 && int(2.9) == 2 && int(-2.9) == -2 && uint(3) == 3u && double('1.5') == 1.5 && bool('true')",
        "string(1) == '1' && string(1.5) == '1.5' && string(1e6) == '1e+06' && string(true) == 'true' && string(b'x') == 'x'",
        "string(duration('90m')) == '5400s' && string(timestamp('2024-01-01T00:00:00Z')) == '2024-01-01T00:00:00Z'",
        "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "self.since.getMonth() == 1 && self.since.getDate() == 29 && self.since.getDayOfMonth() == 28 && self.since.getDayOfWeek() == 4",
        "self.since.getHours('-08:00') == 4 && self.since.getMilliseconds() == 500 && duration('90m').getHours() == 1",
        "timestamp('2024-07-01T12:00:00Z').getHours('America/New_York') == 8 && timestamp('2024-01-01T12:00:00Z').getHours('America/New_York') == 7",
        "int(timestamp('1970-01-01T00:01:00Z')) == 60 && duration('1s') < duration('1m') && duration('1ms500us').getMilliseconds() == 1",
        "type(1) == int && type('a') == string && type([]) == list && type(type(1)) == type",
    ]);
    faults(&[
        ("int('x') == 1", "type conversion error from 'string' to 'int'"),
        ("int(1e30) == 1", "integer overflow"),
        ("uint(-1) == 1u", "unsigned integer overflow"),
        (
            "timestamp('9999-12-31T23:59:59Z') + duration('10s') == timestamp('9999-12-31T23:59:59Z')",
            "timestamp overflow",
        ),
    ]);
    refused(&[
        ("duration('x') == duration('1s')", "invalid duration argument"),
        ("timestamp('x') == timestamp('y')", "invalid timestamp argument"),
        ("'a'.matches('(')", "invalid matches argument"),
    ]);
}

#[test]
fn texts_and_lists() {
    all_true(&[
        "'hello'.charAt(1) == 'e' && 'héllo'.size() == 5 && 'héllo'.substring(1, 3) == 'él' && 'abc'.substring(1) == 'bc'",
        "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.indexOf('l', 3) == 3 && 'a'.indexOf('xyz') == -1",
        "'A b'.lowerAscii() == 'a b' && 'a'.upperAscii() == 'A' && '  x '.trim() == 'x'",
        "'aXbX'.replace('X', '-') == 'a-b-' && 'aXbX'.replace('X', '-', 1) == 'a-bX' && 'ab'.replace('', '_') == '_a_b_'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'abc'.split('') == ['a', 'b', 'c']",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join('-') == 'a-b' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "'%s is %d, %.2f, %x, %b, %e'.format(['x', 5, 1.0, 255, 5, 1000.0]) == 'x is 5, 1.00, ff, 101, 1.000000e+03'",
        "'%s %s'.format([[1, 'a'], {'k': null}]) == '[1, a] {k: null}' && '100%%'.format([]) == '100%'",
        "'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('b') && 'abc'.matches('^a.c$') && matches('abc', 'b')",
        "'ab12cd34'.find('[0-9]+') == '12' && 'ab12cd34'.findAll('[0-9]+') == ['12', '34'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
        "[1, 2, 3].isSorted() && !['b', 'a'].isSorted() && [1, 2].sum() == 3 && [1.5, 2.5].sum() == 4.0 && [3, 1].min() == 1 && ['a', 'b'].max() == 'b'",
        "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(5) == -1",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && lists.range(3) == [0, 1, 2] && [1, 2].reverse() == [2, 1]",
        "[3, 1, 2].sort() == [1, 2, 3] && ['aaa', 'b'].sortBy(x, x.size()) == ['b', 'aaa'] && [1, 1, 2].distinct() == [1, 2]",
        "[1, 2].first().value() == 1 && [1, 2].last().orValue(0) == 2 && [].first() == optional.none()",
        "sets.contains([1, 2, 3], [2, 3]) && sets.equivalent([1, 1, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [2])",
    ]);
    faults(&[
        ("'abc'.substring(5) == ''", "index out of range: 5"),
        (
            "'%d'.format(['x']) == ''",
            "error during formatting: decimal clause can only be used on the types it is made for, was given string",
        ),
        ("lists.range(9223372036854775807).size() == 1", "operation cancelled: actual cost limit exceeded"),
        ("timestamp('2024-01-01T12:00:00Z').getHours('Nowhere/Land') == 7", "unknown time zone Nowhere/Land"),
        ("[1].slice(0, 5) == []", "cannot slice(0, 5), list is length 1"),
        ("[1].filter(x, x > 1).max() == 1", "max called on empty list"),
    ]);
}

#[test]
fn kubernetes_libraries() {
    all_true(&[
        "url('https://example.com:80/a%20b?k=v&k=w').getHost() == 'example.com:80'",
        "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'",
        "url('https://e.com/a%20b?k=v&k=w').getEscapedPath() == '/a%20b' && url('https://e.com?k=v&k=w').getQuery() == {'k': ['v', 'w']}",
        "url('/path').getScheme() == '' && url('/path').getEscapedPath() == '/path' && isURL('https://a') && !isURL('../rel')",
        "quantity('1.5Gi').isGreaterThan(quantity('1500M')) && quantity('1k').asInteger() == 1000 && quantity('50m').sign() == 1",
        "quantity('1').add(quantity('500m')) == quantity('1500m') && quantity('1').sub(2).sign() == -1 && isQuantity('1Ki') && !isQuantity('x')",
        "quantity('1').compareTo(quantity('2')) == -1 && quantity('1.5').asApproximateFloat() == 1.5 && !quantity('1.5').isInteger()",
        "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && isIP('::') && !isIP('1.2.3') && ip.isCanonical('::1') && !ip.isCanonical('0::1')",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && cidr('192.168.0.0/24').containsIP(ip('192.168.0.9')) && !cidr('10.0.0.0/8').containsIP('11.0.0.1')",
        "cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25') && cidr('192.168.1.5/24').masked() == cidr('192.168.1.0/24') && cidr('10.0.0.0/8').prefixLength() == 8",
        "string(ip('1.2.3.4')) == '1.2.3.4' && cidr('1.2.3.4/8').ip() == ip('1.2.3.4') && isCIDR('::/0') && !isCIDR('1.2.3.4')",
        "ip('224.0.0.1').isLinkLocalMulticast() && ip('169.254.1.1').isLinkLocalUnicast() && ip('8.8.8.8').isGlobalUnicast() && ip('0.0.0.0').isUnspecified()",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3').major() == 1 && isSemver('1.0.0-rc.1') && !isSemver('1.0') && semver('v01.2', true) == semver('1.2.0')",
        "!format.dns1123Label().validate('ok-name').hasValue() && format.dns1123Label().validate('Not OK').hasValue()",
        "format.named('uuid').value().validate('x').value().size() == 1 && format.named('nothing') == optional.none()",
        "authorizer.group('').resource('pods').namespace('x').check('get').allowed()",
        "!authorizer.serviceAccount('ns', 'sa').group('').resource('pods').check('get').allowed()",
        "!authorizer.path('/healthz').check('get').allowed() && authorizer.group('').resource('pods').check('list').reason() == 'list pods'",
    ]);
    faults(&[(
        "url('../x').getHost() == ''",
        "URL parse error during conversion from string: parse \"../x\": invalid URI for request",
    )]);
}

#[test]
fn errors_show_their_place() {
    let shown = |source: &str| env().compile(source).unwrap_err().to_string();
    assert_eq!(
        shown("foo == 1"),
        "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo == 1\n | ^"
    );
    assert_eq!(shown("self.foo == 1"), "ERROR: <input>:1:5: undefined field 'foo'\n | self.foo == 1\n | ....^");
    assert_eq!(
        shown("self.replicas == 'a'"),
        "ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(int, string)'\n | self.replicas == 'a'\n | ..............^"
    );
    assert!(
        shown("1 +").starts_with("ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '('")
    );
    refused(&[
        ("self.replicas.foo", "type 'int' does not support field selection"),
        ("self.names.foo()", "undeclared reference to 'foo' (in container '')"),
        ("foo(1)", "undeclared reference to 'foo' (in container '')"),
        ("'a'.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("{'a': 1, 2: 3}", "expected type 'string' but found 'int'"),
        ("1 == 1.0", "found no matching overload for '_==_' applied to '(int, double)'"),
        ("for == 1", "reserved identifier: for"),
        ("a ยง b", "token recognition error at: 'ย'"),
        ("'abc", "token recognition error at: ''abc'"),
        ("99999999999999999999", "invalid int literal"),
        ("Object{a: 1}", "undeclared reference to 'Object' (in container '')"),
    ]);
}

#[test]
fn what_is_too_much_is_refused() {
    let deep = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    let chain = vec!["1"; 30_000].join("+");
    let members = format!("self{}", ".a".repeat(30_000));
    for source in [&deep, &chain, &members, &"!-".repeat(20_000), &"[".repeat(50_000)] {
        let error = env().compile(source).unwrap_err().to_string();
        assert!(error.contains("recursion limit exceeded"), "{}", &error[..200.min(error.len())]);
    }
    // what is only long is not deep
    let ands = vec!["true"; 5_000].join("&&");
    assert_eq!(run(&ands), Ok(json!(true)));
    assert!(env().compile(&" ".repeat(100_001)).unwrap_err().to_string().contains("code point size exceeds limit"));
}

#[test]
fn evaluation_stops_at_its_limits() {
    let limit = "operation cancelled: actual cost limit exceeded";
    let list = format!("[{}]", vec!["1"; 100].join(","));
    let cubic = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))");
    faults(&[(&cubic, limit)]);
    assert_eq!(run(&format!("{cubic} || true")), Err(limit.to_owned()));
    assert_eq!(run_with(5, "1 + 1 + 1 + 1 + 1 + 1 + 1 == 7"), Err(limit.to_owned()));
    // a text that doubles again and again
    let doubling = format!("{}'x'{}", "[".repeat(40), "].map(x, x + x)[0]".repeat(40));
    assert_eq!(run(&format!("{} == ''", doubling)), Err(limit.to_owned()));
}

#[test]
fn costs_are_estimated_from_declared_sizes() {
    let names = Schema::list(Schema::string().max(10)).max(100);
    let unbounded = Schema::list(Schema::string().max(1_000_000)).max(1_000_000);
    let env = Env::new().with("self", Schema::object("o", [("names", names), ("many", unbounded)]));
    let estimate = |source: &str| env.compile(source).unwrap().estimate(&env).max;
    assert_eq!(estimate("true"), 0);
    assert_eq!(estimate("self.names.size() == 1"), 4);
    // for each of a hundred: condition 2, accumulator and comparison 3
    assert_eq!(estimate("self.names.all(n, n == 'abc')"), 2 + 100 * (2 + 1 + 1 + 1) + 1);
    assert!(estimate("self.many.all(n, self.many.all(m, n == m))") > cel::cost::RULE_ESTIMATE_LIMIT);
    assert!(estimate("self.many.map(n, n + n).all(x, x.contains('abc'))") > cel::cost::RULE_ESTIMATE_LIMIT);
}
