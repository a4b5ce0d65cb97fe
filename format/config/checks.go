package config

import "fmt"

func (*System) check() error { return nil }
func (*Time) check() error   { return nil }

func (n *Network) check() error {
	for i, a := range n.Interfaces {
		at := fmt.Sprintf("interface[%d]", i)
		for _, b := range n.Interfaces[:i] {
			if a.Name == b.Name {
				return &keyError{at + ".name", fmt.Sprintf("= %q is there twice", a.Name)}
			}
		}
		static := a.Method == "static"
		switch {
		case static && len(a.Addresses) == 0:
			return &keyError{at + ".addresses", "is missing: the method is static"}
		case !static && len(a.Addresses) > 0:
			return &keyError{at + ".addresses", "is for the method static"}
		case !static && a.Gateway != "":
			return &keyError{at + ".gateway", "is for the method static"}
		}
	}
	return nil
}

// check sees that no key stands for two people, and that nobody is shut out by
// what looks like a right.
func (a *Access) check() error {
	seen := map[string]string{}
	once := func(at, key string) error {
		if other, ok := seen[key]; ok {
			return &keyError{at, "is that of " + other + ": a key says who comes in"}
		}
		seen[key] = at
		return nil
	}
	for i, k := range a.Keys {
		if err := once(fmt.Sprintf("key[%d].key", i), k.Key); err != nil {
			return err
		}
	}
	for i, k := range a.Authorities {
		at := fmt.Sprintf("authority[%d]", i)
		if err := once(at+".key", k.Key); err != nil {
			return err
		}
		for _, b := range a.Authorities[:i] {
			if k.Name == b.Name {
				return &keyError{at + ".name", fmt.Sprintf("= %q is there twice", k.Name)}
			}
		}
	}
	for i, p := range a.Passwords {
		for _, b := range a.Passwords[:i] {
			if p.Name == b.Name && p.Role == b.Role {
				return &keyError{fmt.Sprintf("password[%d]", i), fmt.Sprintf("is the second of %s for the role %s", p.Name, p.Role)}
			}
		}
	}
	return nil
}

func (l *Log) check() error {
	for i, a := range l.Collectors {
		for _, b := range l.Collectors[:i] {
			if a.Name == b.Name {
				return &keyError{fmt.Sprintf("collector[%d].name", i), fmt.Sprintf("= %q is there twice", a.Name)}
			}
		}
	}
	return nil
}
