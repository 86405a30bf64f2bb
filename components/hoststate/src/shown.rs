//! How contents are shown to people: as unified diffs. What is secret is taken out of both sides before they are compared, so that
//! no line of a diff can have it, whoever wrote it into the file.

use similar::TextDiff;

/// What stands where something is not shown.
pub const HIDDEN: &str = "(hidden)";

/// Longest diff, in lines.
const LINES: usize = 200;
const CONTEXT: usize = 3;

/// What the names of secrets end with, as letters and digits only. `client-certificate-data` is half of a kubeconfig's credentials.
const SECRET: [&str; 15] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "keydata",
    "clientcertificatedata",
    "authorization",
    "auth",
    "credential",
];
/// Words behind which a credential stands.
const SCHEMES: [&str; 2] = ["bearer", "basic"];
/// Base64 of what PEM begins with, and of what a certificate begins with, which is no secret.
const PEM: &str = "LS0tLS1CRUdJTi";
const CERTIFICATE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FUR";

/// A text without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    pub text: String,
    /// What was taken out; only good for telling whether it is the same in another text.
    hidden: Vec<String>,
}

/// How a file changes; None: it is not there. Empty where nothing does.
pub fn difference(path: &str, was: Option<&str>, becomes: Option<&str>) -> String {
    let (old, new) = (masked(was.unwrap_or_default()), masked(becomes.unwrap_or_default()));
    let name = |side: Option<&str>| if side.is_some() { path.to_owned() } else { "/dev/null".to_owned() };
    let diff = TextDiff::from_lines(old.text.as_str(), new.text.as_str());
    let text = diff.unified_diff().context_radius(CONTEXT).header(&name(was), &name(becomes)).to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    let mut text = lines.join("\n");
    let also = match (more, was.is_some() && becomes.is_some() && old.hidden != new.hidden) {
        (0, false) => return text,
        (0, true) => "(values that are not shown change)".to_owned(),
        (more, _) => format!("({more} more lines)"),
    };
    if !text.is_empty() {
        text.push('\n');
    }
    text + &also
}

/// Of a kubeconfig only what says who speaks to whom: a list of what may be seen, not of what may not.
pub fn outline(kubeconfig: &str) -> String {
    const SEEN: [&str; 12] = [
        "apiVersion",
        "kind",
        "clusters",
        "cluster",
        "server",
        "contexts",
        "context",
        "current-context",
        "users",
        "user",
        "name",
        "namespace",
    ];
    let line = |line: &str| {
        let (key, rest) = line.split_once(':').unwrap_or((line, ""));
        let is_seen = SEEN.contains(&key.trim_start_matches([' ', '-'])) && (rest.is_empty() || rest.starts_with(' '));
        if is_seen { format!("{line}\n") } else { format!("{}{HIDDEN}\n", &line[..indentation(line)]) }
    };
    kubeconfig.lines().map(line).collect()
}

/// Whether what has this name is not shown: a key of a configuration, an environment variable, a header, a flag.
pub fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let single = plain.strip_suffix('s').unwrap_or(&plain);
    SECRET.iter().any(|ending| plain.ends_with(ending) || single.ends_with(ending))
}

enum Hiding {
    /// Up to the end of a private key.
    Key,
    /// What stands below a line of this indentation.
    Below(usize),
}

/// Takes out private keys, the values of everything that [`is_secret`], credentials in URLs and headers, and tokens by their form.
pub fn masked(text: &str) -> Masked {
    let mut masked = Masked::default();
    let mut hiding: Option<Hiding> = None;
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        match hiding {
            Some(Hiding::Key) => {
                masked.hidden.push(body.to_owned());
                if body.contains("-----END") {
                    hiding = None;
                }
                continue;
            }
            Some(Hiding::Below(indentation)) if is_below(body, indentation) => {
                masked.hidden.push(body.to_owned());
                continue;
            }
            _ => hiding = None,
        }
        let body = without_users(body, &mut masked.hidden);
        match cut(&body) {
            Some(Cut { at, goes_on }) => {
                masked.hidden.push(body[at..].to_owned());
                masked.text.push_str(&format!("{}{HIDDEN}{end}", &body[..at]));
                hiding = goes_on;
            }
            None => masked.text.push_str(&format!("{body}{end}")),
        }
    }
    masked
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a line belongs to what a line of this indentation has opened; a list's items need not stand deeper.
fn is_below(line: &str, opened: usize) -> bool {
    line.trim().is_empty()
        || indentation(line) > opened
        || indentation(line) == opened && line.trim_start().starts_with("- ")
}

/// Who a URL names before its host is not shown: `http://user:password@proxy`.
fn without_users(line: &str, hidden: &mut Vec<String>) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let authority = after.find(|c: char| c.is_whitespace() || "/\"'`<>,;)]}".contains(c)).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(end) => {
                hidden.push(after[..end].to_owned());
                out.push_str(HIDDEN);
                &after[end..]
            }
            None => after,
        };
    }
    out + rest
}

/// From where on a line is not shown, and whether that goes on below it.
struct Cut {
    at: usize,
    goes_on: Option<Hiding>,
}

fn cut(line: &str) -> Option<Cut> {
    let key = line.find("-----BEGIN").filter(|at| line[*at..].contains("PRIVATE KEY")).map(|at| {
        let whole = line[at..].contains("-----END");
        Cut { at, goes_on: (!whole).then_some(Hiding::Key) }
    });
    [key, value(line), word(line)].into_iter().flatten().min_by_key(|cut| cut.at)
}

/// The value of the first key that names a secret.
fn value(line: &str) -> Option<Cut> {
    const NOTHING: [&str; 8] = ["true", "false", "null", "{}", "[]", "\"\"", "''", HIDDEN];
    for (separator, _) in line.char_indices().filter(|(_, c)| matches!(c, ':' | '=')) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let before = line[..separator].trim_end().trim_end_matches(['"', '\'', '\\']);
        let name = before.rsplit(|c: char| !is_name(c)).next().unwrap_or_default();
        if !is_secret(name) {
            continue;
        }
        let behind = &line[separator + 1..];
        let at = line.len() - behind.trim_start().len();
        let value = behind.trim().trim_end_matches(',');
        // a block, or what stands in the next lines
        let opens = value.is_empty() || value.starts_with(['|', '>', '&']) || ["{", "["].contains(&value);
        match (opens, line.as_bytes()[separator]) {
            (true, b':') => return Some(Cut { at, goes_on: Some(Hiding::Below(indentation(line))) }),
            (false, _) if !NOTHING.contains(&value) => return Some(Cut { at, goes_on: None }),
            _ => {}
        }
    }
    None
}

/// A token by its form, or what follows a word that announces one.
fn word(line: &str) -> Option<Cut> {
    let mut announced = false;
    let mut at = 0;
    for part in line.split_inclusive(|c: char| c.is_whitespace() || "\"'`,;=()[]{}<>".contains(c)) {
        let word = part.trim_end_matches(|c: char| c.is_whitespace() || "\"'`,;=()[]{}<>".contains(c));
        if !word.is_empty() {
            if announced || is_token(word) {
                return Some(Cut { at, goes_on: None });
            }
            announced =
                SCHEMES.contains(&word.to_ascii_lowercase().as_str()) || word.starts_with("--") && is_secret(word);
        }
        at += part.len();
    }
    None
}

/// A JSON web token, a bootstrap token, or a key in PEM as base64.
fn is_token(word: &str) -> bool {
    let is_part = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    word.starts_with("eyJ") && word.matches('.').count() == 2
        || word.split_once('.').is_some_and(|(id, secret)| is_part(id, 6) && is_part(secret, 16))
        || word.contains(PEM) && !word.contains(CERTIFICATE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIsekrit\nsekritAAA==\n-----END EC PRIVATE KEY-----\n";

    #[test]
    fn a_diff_has_what_changes_with_its_surroundings() {
        let was = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let diff = difference("/x", Some(was), Some(&was.replace('5', "five").replace("9\n", "9\n10\n")));
        let expected = "--- /x\n+++ /x\n@@ -2,8 +2,9 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n+10";
        assert_eq!(diff, expected);
        assert_eq!(difference("/x", None, Some("a\n")), "--- /dev/null\n+++ /x\n@@ -0,0 +1 @@\n+a");
        assert_eq!(difference("/x", Some("a\n"), None), "--- /x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a");
        assert_eq!(difference("/x", Some("a\n"), Some("a\n")), "");
        let long: String = (0..1000).map(|line| format!("{line}\n")).collect();
        assert!(difference("/x", None, Some(&long)).ends_with("(803 more lines)"));
    }

    #[test]
    fn nothing_secret_is_in_a_text_however_it_is_written() {
        let encoded = STANDARD.encode(KEY);
        let kubeconfig = format!(
            "users:\n- name: a\n  user:\n    client-certificate-data: sekrit\n    client-key-data: {encoded}\n    token: sekrit\n"
        );
        for text in [
            KEY,
            &KEY.replace("-----END EC PRIVATE KEY-----\n", ""),
            &format!("key: |\n{}", KEY.lines().map(|line| format!("  {line}\n")).collect::<String>()),
            &format!("{{\"tls.key\": {:?}}}", KEY),
            &format!("blob: {encoded}"),
            &kubeconfig,
            "password: sekrit",
            "  adminPassword: \"sek rit\" # sekrit",
            "\"db_password\": \"sekrit\",",
            "password: |\n  sekrit\n  sekrit\n",
            "tokens:\n- sekrit\n- sekrit\n",
            "credentials:\n  user: sekrit\n\n  other: sekrit\n",
            "secret = sekrit",
            "Environment=A=1 API_KEY=sekrit",
            "{name: a, password: sekrit, more: sekrit}",
            "HTTPS_PROXY=http://user:sekrit@proxy:3128",
            "see http://sekrit@a/x and https://b:sekrit@c/",
            "Authorization: Basic sekrit",
            "curl -H 'x: bearer sekrit'",
            "ExecStart=/x --token sekrit --more",
            "ExecStart=/x --bearer-token=sekrit",
            "join 10.0.0.1 eyJsekrit.sekrit.sekrit",
        ] {
            let masked = masked(text);
            for secret in ["sekrit", "sek rit", &encoded] {
                assert!(!masked.text.contains(secret), "{text:?} became {:?}", masked.text);
            }
            let diff = difference("/x", Some(text), Some("other: 1\n")) + &difference("/x", None, Some(text));
            assert!(!diff.contains("sekrit") && !diff.contains(&encoded), "{diff}");
        }
        assert_eq!(masked("join abcdef.0123456789abcdef now").text, "join (hidden)");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "tlsPrivateKeyFile: /etc/kinstall/pki/apiserver.key\n",
            "automountServiceAccountToken: false\n",
            "server: https://10.0.0.1:6443\nname: system:kube-proxy@lab\n",
            "secretName: tls\ntokenFile: /run/token\n",
            "certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\n",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "password: \"\"\nauth: {}\n",
            "  sandbox_image = \"kinstall.local/pause:1\"\n\n[plugins]\n",
        ] {
            assert_eq!(masked(text).text, text);
        }
        let around = "a: 1\npasswords:\n  x: sekrit\nb: 2\n";
        assert_eq!(masked(around).text, "a: 1\npasswords:(hidden)\nb: 2\n");
    }

    #[test]
    fn that_something_hidden_changes_is_told() {
        let said = "(values that are not shown change)";
        assert_eq!(difference("/x", Some("token: a\n"), Some("token: b\n")), said);
        let diff = difference("/x", Some("server: a\ntoken: a\n"), Some("server: b\ntoken: b\n"));
        assert!(diff.contains("-server: a\n+server: b") && diff.ends_with(said), "{diff}");
        assert_eq!(difference("/x", Some("token: a\n"), Some("token: a\n")), "");
    }
}
