//! How the executable is linked: every component of a host is this one file, so what it weighs in memory counts several times.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        // a hundred thousand relocations in 25 KiB instead of 2.4 MiB: each process reads all of them when it starts
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
