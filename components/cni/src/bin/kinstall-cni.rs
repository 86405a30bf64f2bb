fn main() {
    std::process::exit(cni::plugin_main());
}
