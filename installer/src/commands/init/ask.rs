//! What `kinstall init` asks when it was told no hosts.

use std::io::{BufRead, Write};

use anyhow::bail;

use super::text::usual_control_planes;
use crate::cli::{Init, Target, control_planes};

struct Dialogue<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
}

impl<I: BufRead, O: Write> Dialogue<'_, I, O> {
    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        write!(self.output, "{question}: ")?;
        self.output.flush()?;
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            bail!("the answers end before the questions; nothing was written");
        }
        Ok(line.trim().to_owned())
    }

    fn yes(&mut self, question: &str) -> anyhow::Result<bool> {
        Ok(matches!(self.ask(&format!("{question} [y/N]"))?.to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks until the answer is one.
    fn until<T>(&mut self, question: &str, read: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<T> {
        loop {
            match read(&self.ask(question)?) {
                Ok(value) => return Ok(value),
                Err(why) => writeln!(self.output, "  {why}")?,
            }
        }
    }
}

/// Fills in what the command line left open. An empty answer takes what stands in brackets.
pub fn complete(arguments: &mut Init, input: &mut impl BufRead, output: &mut impl Write) -> anyhow::Result<()> {
    let mut dialogue = Dialogue { input, output };
    let name = dialogue.ask(&format!("the cluster's name [{}]", arguments.name))?;
    if !name.is_empty() {
        arguments.name = name;
    }
    arguments.hosts = dialogue.until("its hosts, as user@host:port, with spaces between them", targets)?;
    let number = arguments.hosts.len();
    if arguments.control_planes.is_none() && number > 1 {
        let usual = usual_control_planes(number);
        let question = format!("how many of them become control planes: 1, 3 or 5 [{usual}]");
        arguments.control_planes = Some(dialogue.until(&question, |answer| match answer {
            "" => Ok(usual),
            answer => control_planes(answer).and_then(|wanted| {
                if wanted <= number { Ok(wanted) } else { Err("there are not so many hosts".into()) }
            }),
        })?);
    }
    arguments.sample = arguments.sample || dialogue.yes("deploy WordPress as a proof?")?;
    arguments.accept_new = arguments.accept_new || dialogue.yes("accept SSH keys of hosts that are not known yet?")?;
    Ok(())
}

fn targets(answer: &str) -> Result<Vec<Target>, String> {
    let targets: Vec<Target> = answer.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    if targets.is_empty() { Err("one host is needed at least".into()) } else { Ok(targets) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answered(answers: &str) -> (anyhow::Result<Init>, String) {
        let mut arguments = Init { name: "demo".into(), ..Init::default() };
        let mut said = Vec::new();
        let ended = complete(&mut arguments, &mut answers.as_bytes(), &mut said);
        (ended.map(|()| arguments), String::from_utf8(said).unwrap())
    }

    #[test]
    fn empty_answers_take_what_is_usual_and_wrong_ones_are_asked_again() {
        let (init, said) = answered("\n\nh1:x\nroot@10.0.0.1 10.0.0.2 10.0.0.3\n2\n5\n\n\ny\n");
        let init = init.unwrap();
        assert_eq!((init.name.as_str(), init.hosts.len(), init.control_planes), ("demo", 3, Some(1)));
        assert!(!init.sample && init.accept_new);
        for words in ["one host is needed", "a port is a number", "1, 3 or 5", "there are not so many hosts"] {
            assert!(said.contains(words), "{words:?} is missing in {said}");
        }
        let (init, _) = answered("prod\n10.0.0.1\ny\nn\n");
        let init = init.unwrap();
        assert_eq!((init.name.as_str(), init.control_planes, init.sample), ("prod", None, true));
        assert!(answered("prod\n10.0.0.1\n").0.is_err(), "input that ends is no answer");
    }
}
