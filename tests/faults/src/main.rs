//! `faults`: breaks things while kinstall works on a lab's hosts, in every stage of its commands, then runs it again.
//!
//! In: a release build and a bundle (the environment of `make test`), the lab. Out: a matrix (command × step × fault → outcome,
//! seconds to heal) as a table and as JSON; exit status 1 when a cluster was not whole afterwards. `events` follows one run of the
//! installer and strikes at a mark, `fault` is what strikes, `whole` judges the cluster afterwards, `cases` are the tables;
//! `load` is the same for applications that are in use.

mod bundles;
mod cases;
mod events;
mod fault;
mod load;
mod matrix;
mod site;
mod whole;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use matrix::Matrix;
use site::Site;

/// A matrix of faults: what happens to a cluster when something breaks while kinstall works on it.
#[derive(Parser)]
struct Args {
    /// A spread of the steps instead of all of them
    #[arg(long)]
    short: bool,
    /// Applications under load, instead of the matrix; with --short for less long
    #[arg(long)]
    load: bool,
    /// Only cases whose line in the matrix contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Of the long form: these commands' steps (up, remove, upgrade, drained, grow, down)
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = cases::COMMANDS, conflicts_with_all = ["short", "load"])]
    commands: Vec<cases::Command>,
    /// Of the long form: these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = cases::KINDS, conflicts_with_all = ["short", "load"])]
    kinds: Vec<cases::Kind>,
    /// Of the long form: kill the installer at every n-th moment of a run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// Leave out so many cases at the beginning: the long form in slices
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// One of so many cases alone, spread over all of them: a sample
    #[arg(long, default_value = "1")]
    stride: NonZeroUsize,
    /// At most so many cases
    #[arg(long)]
    count: Option<usize>,
    /// Leave out the cases that ended well in what --out has from an earlier run, and keep them there
    #[arg(long)]
    resume: bool,
    /// Where the result is written as JSON, after every case
    #[arg(long, default_value = "target/faults/matrix.json")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every case ended as it has to.
fn run(args: &Args) -> Result<bool> {
    if args.load {
        return load::run(args.short, &args.only, &args.out);
    }
    let mut matrix = if args.resume { Matrix::read(&args.out)? } else { Matrix::default() };
    let mut site = Site::new().context("the lab does not come up")?;
    let all = if args.short {
        cases::short()?
    } else {
        cases::long(&mut site, &args.commands, &args.kinds, args.every.into())?
    };
    let total = all.len();
    let chosen = all.into_iter().filter(|case| case.to_string().contains(&args.only)).skip(args.from);
    let chosen = chosen.step_by(args.stride.get());
    let chosen = chosen.take(args.count.unwrap_or(usize::MAX));
    let mut cases: Vec<_> = chosen.filter(|case| !matrix.has(&case.names())).collect();
    let seconds: usize = cases.iter().map(cases::Case::seconds).sum();
    println!("{} of {total} cases; that takes about {} minutes", cases.len(), seconds / 60 + 1);
    while let Some(case) = cases::take_nearest(&mut cases, site.state) {
        let (row, rest) = case.run(&mut site);
        println!("{row}");
        cases.extend(rest);
        matrix.add(row);
        matrix.write(&args.out)?;
    }
    site.end()?;
    matrix.print();
    println!("the matrix is in {}", args.out.display());
    Ok(matrix.is_good())
}
