require "fileutils"
require "json"

module Kinstall
  Machine = Struct.new(:name, :address, :roles)

  # What the operator chose by environment variables, else what was chosen when the machines were made, else the default:
  # `vagrant destroy` has to know all machines that `KINSTALL_HOSTS=3 vagrant up` made.
  class Settings
    DEFAULTS = {
      "KINSTALL_PROVIDER" => "virtualbox",
      "KINSTALL_HOSTS" => "3",
      "KINSTALL_CONTROL_PLANES" => "1",
      "KINSTALL_MEMORY" => "2048",
      "KINSTALL_CPUS" => "2",
      "KINSTALL_BOX" => "",
      "KINSTALL_NETWORK" => "192.168.56",
      "KINSTALL_SAMPLE" => "no",
    }.freeze
    # Debian's own box where there is one; for LXC ours, which box/build.sh makes.
    BOXES = Hash.new("debian/bookworm64").merge("lxc" => "kinstall/debian12").freeze

    def self.load(file, env = ENV)
      kept = File.exist?(file) ? JSON.parse(File.read(file)) : {}
      new(file, DEFAULTS.to_h { |name, default| [name, chosen(env[name]) || kept[name] || default] })
    end

    def self.chosen(value)
      value unless value.nil? || value.empty?
    end

    def initialize(file, values)
      @file = file
      @values = values
      check
    end

    def provider = @values["KINSTALL_PROVIDER"]
    def hosts = Integer(@values["KINSTALL_HOSTS"], 10)
    def control_planes = Integer(@values["KINSTALL_CONTROL_PLANES"], 10)
    def memory = Integer(@values["KINSTALL_MEMORY"], 10)
    def cpus = Integer(@values["KINSTALL_CPUS"], 10)
    def network = @values["KINSTALL_NETWORK"]
    def sample? = @values["KINSTALL_SAMPLE"] == "wordpress"

    # A box's name, or the path of a box file, which then has a name of its own.
    def box
      file_given? ? "kinstall/#{File.basename(given_box, ".box")}" : (given_box || BOXES[provider])
    end

    def box_url
      "file://#{File.expand_path(given_box)}" if file_given?
    end

    # k1 and so on: the first are control planes, which also run pods where there is nobody else.
    def machines
      (1..hosts).map do |n|
        roles = n <= control_planes ? ["controlPlane"] : ["worker"]
        roles << "worker" if hosts == control_planes && hosts > 1
        Machine.new("k#{n}", "#{network}.#{10 + n}", roles)
      end
    end

    def gateway = "#{network}.1"

    def keep
      FileUtils.mkdir_p(File.dirname(@file))
      File.write(@file, JSON.pretty_generate(@values))
    end

    def forget
      FileUtils.rm_f(@file)
    end

    private

    def given_box = Settings.chosen(@values["KINSTALL_BOX"])
    def file_given? = given_box&.end_with?(".box")

    def check
      within("KINSTALL_HOSTS", 1..5)
      within("KINSTALL_MEMORY", 1024..65_536)
      within("KINSTALL_CPUS", 1..64)
      one_of("KINSTALL_PROVIDER", %w[virtualbox libvirt lxc])
      one_of("KINSTALL_CONTROL_PLANES", %w[1 3 5])
      one_of("KINSTALL_SAMPLE", %w[no wordpress])
      raise_wrong("KINSTALL_CONTROL_PLANES", "at most as many as KINSTALL_HOSTS (#{hosts})") if control_planes > hosts
      octets = network.split(".").map { |octet| Integer(octet, 10, exception: false) }
      known = octets.length == 3 && octets.all? { |octet| octet&.between?(0, 255) }
      raise_wrong("KINSTALL_NETWORK", "three numbers such as 192.168.56") unless known
    end

    def within(name, range)
      number = Integer(@values[name], 10, exception: false)
      raise_wrong(name, "a number from #{range.first} to #{range.last}") unless number && range.cover?(number)
    end

    def one_of(name, words)
      raise_wrong(name, words.join(" or ")) unless words.include?(@values[name])
    end

    def raise_wrong(name, wanted)
      abort "#{name} is #{@values[name].inspect}; it must be #{wanted}"
    end
  end
end
