package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// withNetwork changes a tree so that its product has the network outer, with the
// interface that boot -network gives a machine, a network without interfaces, and
// services of package looker that look around in them and outside.
func withNetwork(tree string) error {
	product := filepath.Join(tree, "image/products/gateway/product.toml")
	var services []string
	for _, in := range []string{"outer", "inner", "none"} {
		services = append(services, "look-"+in)
		if err := addService(tree, "look-"+in, looker(in)); err != nil {
			return err
		}
	}
	if err := addProgram(tree, "looker", "cloison/test/boot/looker"); err != nil {
		return err
	}
	return edit(product, `(?m)^services = \[(.*)\]$`, fmt.Sprintf(`services = [${1}, "%s"]

[[networks]]
name = "outer"
why = "the side of strangers"
interfaces = [{ name = "wan0", port = "0000:00:10.0" }, { name = "wan1", port = "0000:00:11.0" }]

[[networks]]
name = "inner"
why = "services that talk to each other"
interfaces = []
`, strings.Join(services, `", "`)))
}

// addService puts a declaration into a tree, with the next number.
func addService(tree, name, declaration string) error {
	ids := filepath.Join(tree, "image/services/ids")
	text, err := os.ReadFile(ids)
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`(?m)^` + name + ` `).Match(text) {
		// Those of tests are at the end of what there is.
		text = fmt.Appendf(text, "%s %d\n", name, 990+strings.Count(string(text), " 99"))
	}
	if err := os.WriteFile(ids, text, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(tree, "image/services", name+".toml"), []byte(declaration), 0o644)
}

// addProgram puts a program into a tree that is the Main of a package.
func addProgram(tree, name, from string) error {
	dir := filepath.Join(tree, "cmd", name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	main := fmt.Sprintf("// Command %s is of a test.\npackage main\n\nimport other %q\n\nfunc main() { other.Main() }\n", name, from)
	return os.WriteFile(filepath.Join(dir, "main.go"), []byte(main), 0o644)
}

// edit replaces what an expression matches in a file, which has to be once.
func edit(path, expression, with string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	re := regexp.MustCompile(expression)
	if n := len(re.FindAll(text, -1)); n != 1 {
		return fmt.Errorf("%s has %q %d times", path, expression, n)
	}
	return os.WriteFile(path, re.ReplaceAll(text, []byte(with)), 0o644)
}

func looker(network string) string {
	return fmt.Sprintf(`name = "look-%s"
about = "looks around in its network"
program = "/usr/lib/cloison/looker"
arguments = []
files = []
environment = []
stdio = "log"
given = []
provides = []
network = "%s"
proc = "none"
sys = []
devices = []
writable = []
state = []
configuration = []
uses = []
accepts = []
capabilities = []
[seccomp]
groups = ["runtime", "netlink"]
calls = []
[landlock]
read = []
write = []
tcp_bind = []
tcp_connect = []
udp_bind = []
udp_connect = []
[limits]
memory = "32 MiB"
processes = 24
cpu = 50
state = "0 B"
state_files = 0
descriptors = 16
file_size = "0 B"
locked_memory = "0 B"
[start]
after = ["logd"]
needs = []
instances = 0
required = true
ready = "notify"
timeout = "60s"
watchdog = "none"
restart = "always"
delay = "500ms"
longest = "30s"
stop = "2s"
`, network, network)
}
