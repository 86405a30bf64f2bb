require "fileutils"
require "shellwords"
require "yaml"

module Kinstall
  # What happens around Vagrant's own work: the bridge of LXC, the inventory, `kinstall up`, and that nothing stays.
  class Cluster
    BRIDGE = "kinstall-vg0".freeze
    NAME = "vagrant".freeze

    def initialize(directory, settings)
      @directory = directory
      @settings = settings
    end

    # Before a machine starts: the choices are kept, and containers find their bridge.
    def prepare(machine)
      @settings.keep
      make_bridge if lxc?(machine)
    end

    # When the last machine is up. `env` is Vagrant's environment, `last` the machine whose trigger this is.
    def up(env, last)
      machines = @settings.machines.map { |machine| [machine, ssh_of(env, machine, last)] }
      missing = machines.select { |_, ssh| ssh.nil? }.map { |machine, _| machine.name }
      abort "#{missing.join(", ")} does not run; `vagrant up` without names starts all machines" unless missing.empty?
      File.write(inventory, YAML.dump(described(machines)))
      run(kinstall, "up", "-i", inventory, "--yes")
      run(kinstall, "kubeconfig", "-i", inventory, "--out", kubeconfig)
      puts "the cluster answers: kubectl --kubeconfig #{kubeconfig} get nodes"
    end

    # When no machine is left.
    def forget
      FileUtils.rm_f([inventory, kubeconfig, known_hosts])
      FileUtils.rm_rf(File.join(@directory, ".kinstall", NAME))
      state = File.join(@directory, ".kinstall")
      Dir.rmdir(state) if Dir.exist?(state) && Dir.empty?(state)
      @settings.forget
      root("ip", "link", "del", BRIDGE) if bridge?
    end

    # What a container needs to be a host of Kubernetes: it is as trusted as the machine it runs on.
    # [[key, value]]: lines of lxc.container.conf(5) without `lxc.`
    def lxc_options(machine)
      [
        ["environment", "BOX_HOSTNAME=#{machine.name}"], # vagrant-lxc names it by the container
        ["net.0.type", "veth"],
        ["net.0.link", BRIDGE],
        ["net.0.flags", "up"],
        ["net.0.name", "eth0"],
        ["net.0.hwaddr", "02:99:01:00:00:%02x" % Integer(machine.address.split(".").last, 10)],
        ["net.0.ipv4.address", "#{machine.address}/24"],
        ["net.0.ipv4.gateway", @settings.gateway], # Services need a default route; nothing is forwarded behind it
        ["apparmor.profile", "unconfined"],
        ["seccomp.profile", ""],
        ["cap.drop", ""],
        ["mount.auto", ""],
        ["mount.auto", "proc:rw sys:rw"],
        ["mount.entry", "/dev/kmsg dev/kmsg none bind,create=file 0 0"],
        ["cgroup.relative", "1"],
        ["signal.halt", "SIGRTMIN+4"], # systemd's word for power off
      ] + limits
    end

    private

    # Devices and what the machine may use, in the words of the cgroups that this machine has.
    def limits
      bytes = @settings.memory << 20
      if File.exist?("/sys/fs/cgroup/cgroup.controllers")
        [["cgroup2.devices.allow", "a"], ["cgroup2.memory.max", bytes], ["cgroup2.cpu.max", "#{@settings.cpus}00000 100000"]]
      else
        [
          ["cgroup.devices.allow", "a"],
          ["cgroup.memory.limit_in_bytes", bytes],
          ["cgroup.cpu.cfs_period_us", 100_000],
          ["cgroup.cpu.cfs_quota_us", @settings.cpus * 100_000],
        ]
      end
    end

    def ssh_of(env, machine, last)
      env.machine(machine.name.to_sym, last.provider_name).ssh_info
    end

    # The inventory: hosts with users, keys and ports as Vagrant has them.
    def described(machines)
      inventory = {
        "cluster" => NAME,
        "ssh" => { "knownHostsFile" => known_hosts, "hostKeyChecking" => "accept-new" },
        "hosts" => machines.map { |machine, ssh| host(machine, ssh) },
      }
      inventory["bundle"] = bundle if bundle
      inventory["sample"] = { "wordpress" => { "host" => "wordpress.local" } } if @settings.sample?
      inventory
    end

    def host(machine, ssh)
      {
        "name" => machine.name,
        "address" => ssh[:host],
        "nodeAddress" => machine.address,
        "roles" => machine.roles,
        "user" => ssh[:username],
        "port" => Integer(ssh[:port]),
        "identityFile" => Array(ssh[:private_key_path]).first.to_s,
      }
    end

    def make_bridge
      return if bridge?

      root("ip", "link", "add", BRIDGE, "type", "bridge")
      root("sysctl", "-qw", "net.ipv4.conf.#{BRIDGE}.forwarding=0")
      root("ip", "address", "add", "#{@settings.gateway}/24", "dev", BRIDGE)
      root("ip", "link", "set", BRIDGE, "up")
    end

    def bridge? = Dir.exist?("/sys/class/net/#{BRIDGE}")
    def lxc?(machine) = machine.provider_name == :lxc
    def inventory = File.join(@directory, "inventory.yaml")
    def kubeconfig = File.join(@directory, "admin.kubeconfig")
    def known_hosts = File.join(@directory, ".vagrant", "kinstall-known-hosts")

    # KINSTALL_BUNDLE, or that of this clone; else the one that lies beside the command.
    def bundle
      given = Settings.chosen(ENV["KINSTALL_BUNDLE"])
      built = File.expand_path(File.join("..", "target", "bundle", "kinstall-bundle.tar.zst"), @directory)
      given ? File.expand_path(given) : (built if File.exist?(built))
    end

    # The operator's command: KINSTALL_BIN, that of this clone, or the one in the PATH.
    def kinstall
      built = Dir.glob(File.join(@directory, "..", "target", "{*/,}release", "kinstall")).first
      Settings.chosen(ENV["KINSTALL_BIN"]) || built || "kinstall"
    end

    def root(*command)
      run(*(Process.uid.zero? ? [] : ["sudo"]), *command)
    end

    # Vagrant's own environment would change libraries and paths of what is run.
    def run(*command)
      done = Vagrant::Util::Env.with_original_env { system(*command) }
      abort "`#{command.shelljoin}` failed" unless done
    end
  end
end
