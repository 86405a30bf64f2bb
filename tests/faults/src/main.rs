//! `faults`: breaks things while kinstall works on a lab's hosts, in every stage of its commands, then runs it again.
//!
//! In: a release build and a bundle (the environment of `make test`), the lab. Out: a matrix (command × step × fault → outcome,
//! seconds to heal) as a table and as JSON; exit status 1 when a cluster was not whole afterwards. `events` follows one run of the
//! installer and strikes at a mark, `fault` is what strikes, `whole` judges the cluster afterwards, `cases` are the tables;
//! `load` is the same for applications that are in use.

mod cases;
mod events;
mod fault;
mod load;
mod matrix;
mod site;
mod whole;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use cases::Form;
use matrix::Matrix;
use site::Site;

/// A matrix of faults: what happens to a cluster when something breaks while kinstall works on it.
#[derive(Parser)]
struct Args {
    /// A spread of the steps instead of all of them
    #[arg(long)]
    short: bool,
    /// Applications under load, instead of the matrix
    #[arg(long)]
    load: bool,
    /// Only cases whose line in the matrix contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Of the events of a run kill the installer at every n-th
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// Where the result is written as JSON
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
        return load::run(&args.only, &args.out);
    }
    let mut site = Site::new().context("the lab does not come up")?;
    let form = if args.short { Form::Short } else { Form::Long { every: args.every.into() } };
    let cases = cases::all(&mut site, form)?;
    let cases: Vec<_> = cases.into_iter().filter(|case| case.to_string().contains(&args.only)).collect();
    println!("{} cases; that takes about {} minutes", cases.len(), cases.len() * form.seconds_each() / 60 + 1);
    let mut matrix = Matrix::default();
    for case in cases {
        let row = case.run(&mut site);
        println!("{row}");
        matrix.add(row);
    }
    site.end()?;
    matrix.print();
    matrix.write(&args.out)?;
    Ok(matrix.is_good())
}
