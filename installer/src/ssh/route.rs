//! The way to a host: every hop with all that is needed to enter it.
//!
//! In: a host as the inventory describes it, and OpenSSH's client configuration. Out: the bastions in the order in which they are
//! entered, the host last. What the inventory says goes before ssh_config, which goes before the defaults.

use std::path::PathBuf;

use super::SshError;
use super::address::{Login, socket};
use super::config::{self, Asked, ConfigError, Family, Proxy, Settings, Source, Token};
use crate::cluster::{ConfigFile, Host, Secret, Ssh};
use crate::inventory::HostKeyChecking;

/// Bastions in a row; more is a circle.
const LONGEST: usize = 8;
/// The keys that are tried where nothing is said.
const USUAL_KEYS: [&str; 3] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// As it is written in the inventory or in ProxyJump.
    pub name: String,
    pub address: String,
    pub port: u16,
    pub user: String,
    pub keys: Keys,
    pub passphrase: Secret,
    pub password: Secret,
    /// The name it has in known_hosts.
    pub known_as: String,
    /// The name its certificate has to be made for.
    pub principal: String,
    /// The first is where new keys go.
    pub known_hosts: Vec<PathBuf>,
    pub checking: HostKeyChecking,
    /// Its stdin and stdout are used instead of a TCP connection.
    pub proxy_command: Option<String>,
    pub family: Family,
}

/// Which keys are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub files: Vec<PathBuf>,
    /// Somebody named these files: they come before the agent's other keys, and have to be there.
    pub named: bool,
    pub certificates: Vec<PathBuf>,
    /// Nothing but these files, also of the agent's.
    pub only: bool,
    pub agent: Option<PathBuf>,
}

impl Hop {
    /// Where it is, for messages: `10.0.0.5:22`, or `web (10.0.0.5:22)` where it goes by another name.
    pub fn target(&self) -> String {
        let socket = socket(&self.address, self.port);
        if self.name == self.address { socket } else { format!("{} ({socket})", self.name) }
    }
}

pub fn of(host: &Host) -> Result<Vec<Hop>, SshError> {
    let mut hops = Vec::new();
    let wanted = Wanted { name: &host.address, ssh: &host.ssh, default_user: Some("root") };
    add(&mut hops, &wanted, true, 0)?;
    Ok(hops)
}

/// One hop before it is looked up.
struct Wanted<'a> {
    name: &'a str,
    ssh: &'a Ssh,
    /// `None`: who runs this command.
    default_user: Option<&'a str>,
}

/// `jumps`: whether ssh_config's own ProxyJump or ProxyCommand for it counts (it does for the first of a chain alone).
fn add(hops: &mut Vec<Hop>, wanted: &Wanted<'_>, jumps: bool, depth: usize) -> Result<(), SshError> {
    if depth > LONGEST || hops.len() > LONGEST {
        return Err(SshError::Route(format!(
            "the way goes through more than {LONGEST} bastions, {} among them: look for a circle of ProxyJump in your \
             ssh_config",
            wanted.name
        )));
    }
    let Wanted { name, ssh, default_user } = wanted;
    let asked = Asked { host: name, user: ssh.user.as_deref(), port: ssh.port };
    let settings = config::lookup(&asked, &sources(&ssh.config_file)).map_err(unreadable)?;
    let hop = resolve(wanted, &settings)?;
    if let Some(bastions) = &ssh.bastion {
        for (index, bastion) in bastions.iter().enumerate() {
            let user = ssh.user.as_deref().or(*default_user);
            let wanted = Wanted { name: &bastion.address, ssh: &bastion.ssh, default_user: user };
            add(hops, &wanted, index == 0, depth + 1)?;
        }
    } else if let (true, Some(Proxy::Jump(chain))) = (jumps, &settings.proxy) {
        let tokens = tokens(&hop, name);
        let chain = config::expand(chain, &borrowed(&tokens)).and_then(|chain| Login::chain(&chain));
        let chain =
            chain.map_err(|message| SshError::Route(format!("ProxyJump of {name} in your ssh_config: {message}")))?;
        for (index, Login { user, host, port }) in chain.into_iter().enumerate() {
            // what the inventory says about keys and passwords is about the host, as with `ssh -i`
            let ssh = Ssh {
                user,
                port,
                passphrase: ssh.passphrase.clone(),
                known_hosts_file: ssh.known_hosts_file.clone(),
                host_key_checking: ssh.host_key_checking,
                config_file: ssh.config_file.clone(),
                ..Ssh::default()
            };
            let wanted = Wanted { name: &host, ssh: &ssh, default_user: None };
            add(hops, &wanted, index == 0, depth + 1)?;
        }
    } else if let (true, Some(Proxy::Command(command))) = (jumps, &settings.proxy) {
        let tokens = tokens(&hop, name);
        let command = config::expand(command, &borrowed(&tokens))
            .map_err(|message| SshError::Route(format!("ProxyCommand of {name} in your ssh_config: {message}")))?;
        hops.push(Hop { proxy_command: Some(command), ..hop });
        return Ok(());
    }
    hops.push(hop);
    Ok(())
}

fn sources(file: &ConfigFile) -> Vec<Source> {
    match file {
        ConfigFile::Usual => Source::usual(),
        ConfigFile::None => Vec::new(),
        ConfigFile::Only(file) => Source::only(file),
    }
}

fn unreadable(error: ConfigError) -> SshError {
    SshError::Route(format!("your ssh_config cannot be used: {error}"))
}

fn resolve(wanted: &Wanted<'_>, settings: &Settings) -> Result<Hop, SshError> {
    let Wanted { name, ssh, default_user } = *wanted;
    let wrong = |message: String| SshError::Route(format!("your ssh_config says about {name}: {message}"));
    let address = match &settings.host_name {
        Some(host_name) => config::expand(host_name, &[('h', name)]).map_err(wrong)?,
        None => name.to_owned(),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = ssh.port.or(settings.port).unwrap_or(22);
    let user = ssh.user.clone().or_else(|| settings.user.clone());
    let user = user.unwrap_or_else(|| default_user.map_or_else(config::local_user, str::to_owned));
    let principal = settings.host_key_alias.clone().unwrap_or_else(|| address.clone());
    let known_as = match &settings.host_key_alias {
        Some(alias) => alias.clone(),
        None if port == 22 => address.clone(),
        None => format!("[{address}]:{port}"),
    };
    let mut hop = Hop {
        name: name.to_owned(),
        address,
        port,
        user,
        keys: Keys { files: Vec::new(), named: false, certificates: Vec::new(), only: false, agent: None },
        passphrase: ssh.passphrase.clone(),
        password: ssh.password.clone(),
        known_as,
        principal,
        known_hosts: Vec::new(),
        checking: ssh.host_key_checking.or(settings.checking).unwrap_or_default(),
        proxy_command: None,
        family: settings.family.unwrap_or(Family::Any),
    };
    let tokens = tokens(&hop, name);
    let tokens = borrowed(&tokens);
    let path = |text: &str| config::expand_path(text, &tokens).map_err(wrong);
    hop.keys = keys(ssh, settings, &path)?;
    hop.known_hosts = known_hosts(ssh, settings, &path)?;
    Ok(hop)
}

type Expand<'a> = dyn Fn(&str) -> Result<PathBuf, SshError> + 'a;

fn keys(ssh: &Ssh, settings: &Settings, path: &Expand<'_>) -> Result<Keys, SshError> {
    let written = |list: &[String]| -> Result<Vec<PathBuf>, SshError> {
        list.iter().filter(|text| !text.eq_ignore_ascii_case("none")).map(|text| path(text)).collect()
    };
    let (files, named) = if !ssh.identity_files.is_empty() {
        (ssh.identity_files.clone(), true)
    } else if !settings.identity_files.is_empty() {
        (written(&settings.identity_files)?, true)
    } else {
        let usual: Vec<_> = USUAL_KEYS.iter().map(|text| path(text)).collect::<Result<_, _>>()?;
        (usual.into_iter().filter(|file| file.exists()).collect(), false)
    };
    let mut certificates: Vec<PathBuf> = ssh.certificate_file.iter().cloned().collect();
    certificates.extend(written(&settings.certificate_files)?);
    let agent = match settings.identity_agent.as_deref() {
        Some(none) if none.eq_ignore_ascii_case("none") => None,
        Some("SSH_AUTH_SOCK") | None => environment("SSH_AUTH_SOCK"),
        Some(variable) if variable.starts_with('$') && !variable.starts_with("${") => environment(&variable[1..]),
        Some(socket) => Some(path(socket)?),
    };
    let only = ssh.identities_only.or(settings.identities_only).unwrap_or(false);
    Ok(Keys { files, named, certificates, only, agent })
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn known_hosts(ssh: &Ssh, settings: &Settings, path: &Expand<'_>) -> Result<Vec<PathBuf>, SshError> {
    if let Some(file) = &ssh.known_hosts_file {
        return Ok(vec![file.clone()]);
    }
    let or = |list: &Option<Vec<String>>, usual: [&str; 2]| -> Vec<String> {
        list.clone().unwrap_or_else(|| usual.map(str::to_owned).to_vec())
    };
    let mut files = or(&settings.user_known_hosts, ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]);
    files.extend(or(&settings.global_known_hosts, ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]));
    files.iter().filter(|file| !file.eq_ignore_ascii_case("none")).map(|file| path(file)).collect()
}

/// What `%` letters mean for a hop.
fn tokens(hop: &Hop, asked: &str) -> Vec<(char, String)> {
    let home = std::env::home_dir().unwrap_or_default();
    let local = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let short = local.split('.').next().unwrap_or_default().to_owned();
    vec![
        ('h', hop.address.clone()),
        ('n', asked.to_owned()),
        ('p', hop.port.to_string()),
        ('r', hop.user.clone()),
        ('u', config::local_user()),
        ('d', home.display().to_string()),
        ('i', nix::unistd::getuid().to_string()),
        ('k', if hop.principal == hop.address { asked.to_owned() } else { hop.principal.clone() }),
        ('L', short),
        ('l', local),
    ]
}

fn borrowed(tokens: &[(char, String)]) -> Vec<Token<'_>> {
    tokens.iter().map(|(letter, value)| (*letter, value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::cluster::Cluster;

    fn way(ssh: &str, config: &str) -> Result<Vec<Hop>, SshError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config"), config).unwrap();
        let text = format!(
            "cluster: c\nssh: {{configFile: config, knownHostsFile: known{ssh}}}\n\
             hosts: [{{name: h1, address: web, nodeAddress: 10.0.0.1, role: controlPlane}}]\n"
        );
        of(&Cluster::parse(&text, "i", directory.path()).unwrap().hosts[0])
    }

    fn shown_way(hops: &[Hop]) -> Vec<String> {
        hops.iter().map(|hop| format!("{}@{}", hop.user, hop.target())).collect()
    }

    #[test]
    fn the_inventory_goes_before_ssh_config_and_that_before_defaults() {
        let config = "Host web\n HostName 10.0.0.5\n User admin\n Port 2222\n IdentityFile /k/%r-%h\n HostKeyAlias w\n";
        let hop = &way("", config).unwrap()[0];
        assert_eq!(shown_way(std::slice::from_ref(hop)), ["admin@web (10.0.0.5:2222)"]);
        assert_eq!((hop.keys.files[0].as_path(), hop.known_as.as_str()), (Path::new("/k/admin-10.0.0.5"), "w"));
        let hop = &way(", user: me, port: 22, identityFile: /mine", config).unwrap()[0];
        assert_eq!((hop.user.as_str(), hop.port, hop.keys.files.as_slice()), ("me", 22, &[PathBuf::from("/mine")][..]));
        let hop = &way("", "").unwrap()[0];
        assert_eq!((hop.user.as_str(), hop.port, hop.known_as.as_str(), hop.keys.named), ("root", 22, "web", false));
    }

    #[test]
    fn chains_of_the_inventory_and_of_proxy_jump() {
        let config = "Host outer\n HostName 192.0.2.1\n ProxyJump gate\nHost gate\n User keeper\nHost web\n ProxyJump no@inner:23\n";
        let hops = way(", bastion: ['a@outer', {address: inner, port: 24, identityFile: /b}]", config).unwrap();
        assert_eq!(shown_way(&hops), ["keeper@gate:22", "a@outer (192.0.2.1:22)", "root@inner:24", "root@web:22"]);
        assert_eq!(hops[2].keys.files, [PathBuf::from("/b")]);
        let hops = way("", config).unwrap();
        assert_eq!(shown_way(&hops), ["no@inner:23", "root@web:22"]);
        assert_eq!(way(", bastion: none", config).unwrap().len(), 1);
    }

    #[test]
    fn circles_end() {
        let error = way("", "Host web\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n").unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        for (config, message) in [
            ("Host web\n ProxyJump a:b\n", "ProxyJump of web in your ssh_config: expected [user@]host[:port]"),
            ("Host web\n IdentityFile /k/%z\n", "your ssh_config says about web: %z means nothing here"),
            ("Port none\n", "config:1: port: expected a number"),
        ] {
            let error = way("", config).unwrap_err().to_string();
            assert!(error.contains(message), "{config:?}: {error}");
        }
        let hops = way("", "ProxyCommand nc -X connect %h %p\n").unwrap();
        assert_eq!(hops[0].proxy_command.as_deref(), Some("nc -X connect web 22"));
    }
}
