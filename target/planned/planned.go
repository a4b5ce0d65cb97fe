// Package planned prepares changes of the Secure Boot databases, so that the
// state volume opens after them as it did before.
//
// The integrator signs an update of db or dbx (cloison keys allow, cloison keys
// revoke), and it is put on the ESP. The initramfs plans: it believes nothing but
// what the machine's KEK has signed, predicts PCR 7 from the firmware's event
// log, and has the secret sealed for it. PID 1, once the boot is good, hands the
// update to the firmware. In this order power may fail anywhere: there is a token
// for each value that PCR 7 can have.
//
// It needs the event log and the PCRs of the running boot. Source:
// docs/decisions/0009-planned-changes.md; UEFI 2.10, section 8.2.2.
package planned

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"cloison/format/bootfacts"
	"cloison/format/efisig"
	"cloison/format/eventlog"
)

// Folder of the ESP holds what is planned: db.auth, dbx.auth.
const Folder = "cloison/planned"

// maxUpdate bounds an .auth file, in bytes. Firmware takes 32 KiB or 64.
const maxUpdate = 64 << 10

// databases are what can be changed, in the order in which it is done.
var databases = []efisig.Variable{efisig.DB, efisig.DBX}

func file(v efisig.Variable) string { return v.Name + ".auth" }

// Read returns the updates that lie in the ESP mounted at dir, by the names of
// their variables; normally there is none.
func Read(dir string) (map[string][]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot look for planned changes: %w", err)
	}
	defer root.Close() // a folder
	updates := map[string][]byte{}
	for _, v := range databases {
		b, err := readFile(root, Folder+"/"+file(v))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the planned change of %s: %w", v.Name, err)
		}
		updates[v.Name] = b
	}
	return updates, nil
}

func readFile(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxUpdate {
		return nil, fmt.Errorf("it is no file of at most %d bytes", maxUpdate)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxUpdate))
	return b, errors.Join(err, f.Close())
}

// Plan checks the updates and predicts PCR 7 after each of them. It refuses
// them all when one is not signed by the machine's KEK, or would keep something
// from starting that was started now, or would allow again what dbx forbids.
func Plan(boot eventlog.Boot, updates map[string][]byte) ([]bootfacts.Change, error) {
	kek, err := efisig.Parse(boot.Contents["KEK"])
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's KEK: %w", err)
	}
	signers, err := efisig.X509(kek)
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's KEK: %w", err)
	}
	contents := map[string][]byte{}
	var plan []bootfacts.Change
	for _, v := range databases {
		text, ok := updates[v.Name]
		if !ok {
			continue
		}
		change := bootfacts.Change{Name: v.Name}
		update, err := efisig.ParseUpdate(text)
		var attributes uint32
		if err == nil {
			attributes, err = update.Attributes(v, signers)
		}
		if err == nil {
			change.Append = attributes == efisig.Append
			contents[v.Name], err = update.Apply(boot.Contents[v.Name], attributes)
		}
		if err == nil && v == efisig.DBX {
			err = keeps(boot.Contents[v.Name], contents[v.Name])
		}
		if err == nil {
			change.PCR7, err = boot.Predict(contents)
		}
		if err != nil {
			return nil, fmt.Errorf("planned change of %s: %w", v.Name, err)
		}
		plan = append(plan, change)
	}
	return plan, nil
}

// keeps refuses a dbx that forbids less. An old update of dbx is as well signed
// as a new one, and the firmware alone remembers which was the last.
func keeps(old, content []byte) error {
	was, err1 := efisig.Parse(old)
	will, err2 := efisig.Parse(content)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if efisig.Lost(was, will) {
		return errors.New("dbx would allow again what it forbids")
	}
	return nil
}

// Firmware is where the variables are: efivar.Store.
type Firmware interface {
	Contents(v efisig.Variable) ([]byte, error) // nil where there is no such variable
	Write(v efisig.Variable, attributes uint32, update []byte) error
}

// Apply hands an update to the firmware, and looks what it made of it.
func Apply(to Firmware, change bootfacts.Change, text []byte) error {
	for _, v := range databases {
		if v.Name == change.Name {
			return apply(to, v, change, text)
		}
	}
	return fmt.Errorf("internal error: %s is not a database", change.Name)
}

func apply(to Firmware, v efisig.Variable, change bootfacts.Change, text []byte) error {
	attributes := efisig.Replace
	if change.Append {
		attributes = efisig.Append
	}
	update, err := efisig.ParseUpdate(text)
	if err != nil {
		return err
	}
	before, err := to.Contents(v)
	if err != nil {
		return err
	}
	wanted, err := update.Apply(before, attributes)
	if err != nil {
		return err
	}
	if err := to.Write(v, attributes, text); err != nil {
		return err
	}
	after, err := to.Contents(v)
	if err != nil {
		return err
	}
	if string(after) != string(wanted) {
		return ErrOther
	}
	return nil
}

// ErrOther says that PCR 7 will not be what was predicted.
var ErrOther = errors.New("the firmware made something else of it than was predicted: the next boot will need the recovery passphrase")

// Done takes the update of a variable off the ESP mounted at dir.
func Done(dir, name string) error { return take(dir, name, (*os.Root).Remove) }

// Refused keeps the update of a variable on the ESP under another name, so that
// it is not tried at each boot.
func Refused(dir, name string) error {
	return take(dir, name, func(root *os.Root, path string) error { return root.Rename(path, path+".refused") })
}

func take(dir, name string, do func(*os.Root, string) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // a folder
	if err := do(root, Folder+"/"+name+".auth"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
