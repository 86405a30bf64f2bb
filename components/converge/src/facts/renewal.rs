//! The timer that renews this host's certificates.

use hoststate::facts::Renewal;

use crate::{Root, command};

const TIMER: &str = "kinstall-certs.timer";
const SERVICE: &str = "kinstall-certs.service";

pub fn collect(root: &Root) -> Renewal {
    let properties = "Id,ActiveState,NextElapseUSecRealtime,Result";
    let shown = command::look_in(root, "systemctl", &["show", "-p", properties, "--", TIMER, SERVICE]);
    parse(&shown.unwrap_or_default())
}

/// One paragraph for each unit, in any order; the properties of a paragraph too.
fn parse(shown: &str) -> Renewal {
    let of = |unit: &str, key: &str| {
        let paragraph = shown.split("\n\n").find(|it| it.lines().any(|line| line.strip_prefix("Id=") == Some(unit)))?;
        paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    };
    Renewal {
        active: of(TIMER, "ActiveState").is_some_and(|state| state == "active"),
        next: of(TIMER, "NextElapseUSecRealtime").unwrap_or_default(),
        failed: of(SERVICE, "Result").is_some_and(|result| result != "success"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_of_timer_and_service() {
        let next = "Sun 2026-11-22 03:12:44 UTC";
        let shown = format!(
            "Result=success\nNextElapseUSecRealtime={next}\nId=kinstall-certs.timer\nActiveState=active\n\n\
             Result=exit-code\nId=kinstall-certs.service\nActiveState=failed\n"
        );
        assert_eq!(parse(&shown), Renewal { active: true, next: next.into(), failed: true });
        let none = "Id=kinstall-certs.timer\nActiveState=inactive\n\nResult=success\nId=kinstall-certs.service\n";
        assert_eq!((parse(none), parse("")), (Renewal::default(), Renewal::default()));
    }
}
