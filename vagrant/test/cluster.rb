# What the Vagrantfile's own code decides, without Vagrant: choices, machines, inventory. `ruby vagrant/test/cluster.rb`
require "tmpdir"
require_relative "../lib/settings"
require_relative "../lib/cluster"

def check(what, found, wanted)
  abort "#{what}: found #{found.inspect}, wanted #{wanted.inspect}" unless found == wanted
end

Dir.mktmpdir do |directory|
  file = File.join(directory, ".vagrant", "kinstall.json")
  load = ->(env) { Kinstall::Settings.load(file, env) }

  check "machines by default", load.({}).machines.map(&:to_a),
        [["k1", "192.168.56.11", ["controlPlane"]], ["k2", "192.168.56.12", ["worker"]], ["k3", "192.168.56.13", ["worker"]]]
  check "three control planes alone run pods too",
        load.({ "KINSTALL_CONTROL_PLANES" => "3" }).machines.map(&:roles).uniq, [%w[controlPlane worker]]
  check "an empty variable is none", load.({ "KINSTALL_HOSTS" => "" }).hosts, 3
  check "a box by name", load.({ "KINSTALL_BOX" => "debian/trixie64" }).then { |s| [s.box, s.box_url] }, ["debian/trixie64", nil]
  check "a box by file", load.({ "KINSTALL_BOX" => "/b/abc.box" }).then { |s| [s.box, s.box_url] }, ["kinstall/abc", "file:///b/abc.box"]

  chosen = load.({ "KINSTALL_HOSTS" => "2", "KINSTALL_NETWORK" => "10.1.2" })
  chosen.keep
  check "a choice is kept", load.({}).hosts, 2
  check "a new choice wins", load.({ "KINSTALL_HOSTS" => "4" }).hosts, 4

  # as VirtualBox has them: everybody behind a port of this machine
  ssh = ->(port) { { host: "127.0.0.1", port: port, username: "vagrant", private_key_path: ["/keys/#{port}"] } }
  cluster = Kinstall::Cluster.new(directory, chosen)
  inventory = cluster.send(:described, chosen.machines.zip([ssh.(2222), ssh.(2200)]))
  check "hosts", inventory["hosts"], [
    { "name" => "k1", "address" => "127.0.0.1", "nodeAddress" => "10.1.2.11", "roles" => ["controlPlane"],
      "user" => "vagrant", "port" => 2222, "identityFile" => "/keys/2222" },
    { "name" => "k2", "address" => "127.0.0.1", "nodeAddress" => "10.1.2.12", "roles" => ["worker"],
      "user" => "vagrant", "port" => 2200, "identityFile" => "/keys/2200" },
  ]
  chosen.forget
  check "nothing is kept", load.({}).hosts, 3
end
puts "vagrant: choices and inventory are right"
