package config

// System is the document "system".
type System struct {
	Hostname string `toml:"hostname" form:"hostname" default:"cloison" about:"the machine's name: in the prompt, in records of the log, and in what is asked of a DHCP server"`
	Banner   string `toml:"banner" form:"line" about:"one line that is shown before a role's first prompt"`
	Idle     string `toml:"idle" form:"duration" default:"15m" about:"how long a role's session may wait for a key before it ends"`
	Confirm  string `toml:"confirm" form:"duration" default:"2m" about:"how long a commit waits for its confirmation where the commit does not say it"`
}

// Time is the document "time".
type Time struct {
	Servers []string `toml:"servers" form:"server" most:"16" about:"NTP servers; more than half of them have to agree before the clock is touched, and without any the machine keeps its own time"`
}

// Network is the document "network".
type Network struct {
	Resolvers  []string    `toml:"resolvers" form:"address" most:"3" about:"addresses of DNS servers, in the order in which they are asked, besides those that DHCP brings"`
	Interfaces []Interface `toml:"interface" most:"32" about:"an interface of a network of the product; one that is not named here has no address"`
}

// Interface is one interface.
type Interface struct {
	Name      string   `toml:"name" form:"interface" need:"true" about:"its name in the product's network"`
	Method    string   `toml:"method" words:"none dhcp static" need:"true" about:"where its address comes from"`
	Addresses []string `toml:"addresses" form:"prefix" most:"16" about:"with the method static: its addresses, each with the length of its prefix"`
	Gateway   string   `toml:"gateway" form:"address" about:"with the method static: the default gateway"`
	MTU       int64    `toml:"mtu" least:"1280" largest:"9216" about:"size of the largest packet in bytes; absent: the interface's own"`
}

// Access is the document "access": who may come in, and as what.
type Access struct {
	SSH         SSH         `toml:"ssh" about:"the SSH server"`
	Revoked     []string    `toml:"revoked" form:"fingerprint" most:"1024" about:"keys that open nothing any more, neither by themselves nor with a certificate"`
	Serials     []string    `toml:"revoked_serials" form:"serial" most:"1024" about:"certificates that open nothing any more: AUTHORITY:SERIAL"`
	Keys        []Key       `toml:"key" most:"256" about:"an SSH key and the role that it opens"`
	Authorities []Authority `toml:"authority" most:"16" about:"an authority whose SSH certificates open roles"`
	Passwords   []Password  `toml:"password" most:"32" about:"who may log in at the machine's console, where the product allows it"`
}

// SSH says where the SSH server listens.
type SSH struct {
	Networks []string `toml:"networks" form:"name" most:"8" about:"networks of the product in which it listens; without any it does not"`
	Port     int64    `toml:"port" default:"22" least:"1" largest:"65535" about:"its TCP port"`
}

// Key is an SSH key that opens a role.
type Key struct {
	Name    string   `toml:"name" form:"name" need:"true" about:"who it belongs to; a role's history has this name"`
	Role    string   `toml:"role" words:"admin audit update" need:"true" about:"what it opens"`
	Key     string   `toml:"key" form:"sshkey" need:"true" about:"the public key: type and base64"`
	Sources []string `toml:"sources" form:"prefix" most:"16" about:"prefixes that it may come from; without any, everywhere"`
}

// Authority is an authority of SSH certificates.
type Authority struct {
	Name       string   `toml:"name" form:"name" need:"true" about:"what it is called here"`
	Key        string   `toml:"key" form:"sshkey" need:"true" about:"its public key: type and base64"`
	Roles      []string `toml:"roles" words:"admin audit update" most:"3" need:"true" about:"the roles that its certificates may open; a certificate names one as its principal"`
	Principals []string `toml:"principals" form:"name" most:"64" about:"the names that its certificates may be for, besides a role; without any, every name"`
}

// Password is a password at the machine's console.
type Password struct {
	Name string `toml:"name" form:"name" need:"true" about:"who it belongs to"`
	Role string `toml:"role" words:"admin audit update" need:"true" about:"what it opens"`
	Hash string `toml:"hash" form:"argon2id" need:"true" secret:"true" about:"argon2id of the password, in the form that cloison seed password prints"`
}

// Log is the document "log".
type Log struct {
	Size       string      `toml:"size" form:"size" default:"64 MiB" about:"how large the log may be on the state volume before its oldest part is given up"`
	Age        string      `toml:"age" form:"duration" default:"365d" about:"how old a record may be before it is given up"`
	Collectors []Collector `toml:"collector" most:"4" about:"where the log is sent to as it is written: syslog (RFC 5424) over TLS"`
}

// Collector is one that gets the log.
type Collector struct {
	Name        string `toml:"name" form:"name" need:"true" about:"what it is called here"`
	Address     string `toml:"address" form:"server" need:"true" about:"host, or host:port; without a port 6514"`
	Authorities string `toml:"authorities" form:"pem" need:"true" about:"the certificates, in PEM, of the authorities one of which has signed the collector's"`
	Certificate string `toml:"certificate" form:"pem" about:"this machine's certificate, in PEM, which the collector asks for"`
}
