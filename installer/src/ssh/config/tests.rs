#![allow(clippy::unwrap_used)]
use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(directory)
    }

    fn lookup(&self, host: &str) -> Result<Settings, String> {
        let source = |name| Source { file: self.0.path().join(name), base: self.0.path().into(), required: false };
        let asked = Asked { host, user: None, port: None };
        let found = lookup(&asked, &[source("config"), source("system")]);
        found.map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
}

fn lookup_in(text: &str, host: &str) -> Settings {
    Files::new(&[("config", text)]).lookup(host).unwrap()
}

#[test]
fn the_first_value_counts_and_identities_add_up() {
    let text = "# a comment\n\
        Host web*  !web9\n  HostName 10.0.0.5\n  Port=2222\n  IdentityFile ~/.ssh/web\n\n\
        Host *\n  User \"a b\"\n  Port 22\n  IdentityFile ~/.ssh/all # a word\n  IdentitiesOnly yes\n  Compression yes\n";
    let web = lookup_in(text, "web1");
    assert_eq!((web.host_name.as_deref(), web.port, web.user.as_deref()), (Some("10.0.0.5"), Some(2222), Some("a b")));
    assert_eq!(web.identity_files, ["~/.ssh/web", "~/.ssh/all"]);
    assert_eq!(web.identities_only, Some(true));
    let excepted = lookup_in(text, "web9");
    assert_eq!((excepted.host_name, excepted.port), (None, Some(22)));
}

#[test]
fn includes_belong_to_their_block_and_the_users_file_comes_first() {
    let files = Files::new(&[
        ("config", "Include conf.d/*.conf\nHost db\n Include db\nHost *\n User last\n"),
        ("conf.d/20.conf", "Host *\n User twenty\n Port 20\n"),
        ("conf.d/10.conf", "Host web\n Port 10\n"),
        ("conf.d/ignored", "Port 1\n"),
        ("db", "Port 5432\nHost web\n Port 1\n"),
        ("system", "HostKeyAlias from-system\nUser system\n"),
    ]);
    let web = files.lookup("web").unwrap();
    assert_eq!((web.port, web.user.as_deref()), (Some(10), Some("twenty")));
    assert_eq!(web.host_key_alias.as_deref(), Some("from-system"));
    let db = files.lookup("db").unwrap();
    assert_eq!(db.port, Some(20), "conf.d was read before");
}

#[test]
fn proxies_compete_and_none_ends_the_search() {
    assert_eq!(lookup_in("ProxyJump a,b\nProxyCommand nc %h %p\n", "h").proxy, Some(Proxy::Jump("a,b".into())));
    let command = "ProxyCommand sh -c \"nc '%h' %p\" # not a comment\nProxyJump a\n";
    assert_eq!(
        lookup_in(command, "h").proxy,
        Some(Proxy::Command("sh -c \"nc '%h' %p\" # not a comment".into())),
        "as the shell is to see it"
    );
    assert_eq!(lookup_in("Host in\n ProxyJump none\nHost *\n ProxyJump a\n", "in").proxy, Some(Proxy::None));
}

#[test]
fn match_criteria() {
    let me = criteria::local_user();
    let text = format!(
        "Host alias\n HostName real.example\n\
         Match host real.example\n Port 1\n\
         Match originalhost alias user nobody\n User never\n\
         Match localuser {me} !host *.other\n User found\n\
         Match exec \"test %n = alias\"\n HostKeyAlias ran\n\
         Match final host *.example\n IdentityAgent late\n\
         Match all\n UserKnownHostsFile one two\n"
    );
    let found = lookup_in(&text, "alias");
    assert_eq!((found.port, found.user.as_deref()), (Some(1), Some("found")));
    assert_eq!((found.host_key_alias.as_deref(), found.identity_agent.as_deref()), (Some("ran"), Some("late")));
    assert_eq!(found.user_known_hosts.unwrap(), ["one", "two"]);
    let other = lookup_in(&text, "another");
    assert_eq!((other.port, other.host_key_alias, other.identity_agent), (None, None, None));
}

#[test]
fn host_key_checking_never_accepts_what_changed() {
    for (written, expected) in [
        ("yes", HostKeyChecking::Strict),
        ("ask", HostKeyChecking::Strict),
        ("accept-new", HostKeyChecking::AcceptNew),
        ("no", HostKeyChecking::AcceptNew),
    ] {
        assert_eq!(lookup_in(&format!("StrictHostKeyChecking {written}\n"), "h").checking, Some(expected));
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, message) in [
        ("\nPort many\n", "config:2: port: expected a number"),
        ("User \"me\n", "config:1: a quote is not closed"),
        ("Host h\nIdentitiesOnly perhaps\n", "config:2: identitiesonly: expected yes or no, found \"perhaps\""),
        ("Match tagged x\nPort 1\n", "config:1: kinstall does not know `match tagged`"),
        ("Match host\n", "config:1: match host needs a value"),
        ("Include config\n", "too many files include each other"),
        ("HostName\n", "config:1: hostname needs a value"),
    ] {
        let error = Files::new(&[("config", text)]).lookup("h").unwrap_err();
        assert!(error.contains(message), "{text:?}: {error}");
    }
    assert!(
        Files::new(&[("config", "Host other\nPort many\n")]).lookup("h").is_ok(),
        "what does not apply is not judged"
    );
    let asked = Asked { host: "h", user: None, port: None };
    assert!(lookup(&asked, &Source::only(Path::new("/no/such/file"))).unwrap_err().to_string().contains("configFile"));
}

#[test]
fn tokens_and_variables() {
    let tokens = [('h', "host"), ('p', "22")];
    assert_eq!(expand("%h:%p 100%%", &tokens).unwrap(), "host:22 100%");
    assert!(expand("%x", &tokens).unwrap_err().contains("%x"));
    assert!(expand("%", &tokens).is_err());
    assert_eq!(expand_path("/k/${CARGO_PKG_NAME}/%h", &tokens).unwrap(), Path::new("/k/kinstall/host"));
    assert!(expand_path("${NO_SUCH_VARIABLE}", &tokens).unwrap_err().contains("NO_SUCH_VARIABLE"));
    assert!(expand_path("~/x", &tokens).unwrap().ends_with("x"));
}
