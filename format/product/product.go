// Package product reads a product: the declaration of one system that can be
// built, image/products/NAME/product.toml. It needs a TOML parser.
//
// The format is Cloison's own (docs/formats.md).
package product

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2"

	"cloison/format/flow"
	"cloison/format/network"
)

// Product is one system that can be built.
type Product struct {
	Name     string   `toml:"name"`
	Title    string   `toml:"title"`    // one line for people
	Services []string `toml:"services"` // names of declarations in image/services
	// Networks are those that services can be in by their names.
	Networks []network.Network `toml:"networks"`
	Release  Release           `toml:"release"`
	Disk     Disk              `toml:"disk"`
	State    State             `toml:"state"`
	// Assertions are about what can flow where; the build checks them.
	Assertions []Assertion `toml:"assertions"`
}

// Assertion is a sentence of package flow, and its reason.
type Assertion struct {
	Assert string `toml:"assert"`
	Why    string `toml:"why"` // one line for people
}

// Release is what tells one build that is published from another.
type Release struct {
	Version         string `toml:"version"` // X.Y.Z
	SecurityVersion uint64 `toml:"security_version"`
	// Floor is the least security version that a machine's TPM accepts once it
	// has started this release well. 0 leaves it as it is.
	Floor uint64         `toml:"floor"`
	Date  toml.LocalDate `toml:"date"` // of every file in the image
}

// Disk has the sizes of the partitions, in MiB.
type Disk struct {
	ESP   uint64 `toml:"esp"`
	Slot  uint64 `toml:"slot"`
	State uint64 `toml:"state"` // in the image; the machine's first boot grows it to the end of its disk
	Swap  uint64 `toml:"swap"`  // 0: the system does not swap
}

// State says how the state volume is kept.
type State struct {
	// Unlock is TPM or Passphrase; "" is TPM.
	Unlock string `toml:"unlock"`
}

// What opens the state volume.
const (
	TPM        = "tpm"
	Passphrase = "passphrase" // that a person types at the console; nothing binds the volume to the machine
)

// ByPassphrase reports whether a person opens the state volume, and no TPM.
func (p Product) ByPassphrase() bool { return p.State.Unlock == Passphrase }

// Limits of the sizes, in MiB: FAT32 needs 33 at least, and nobody wants a
// slot that a person mistyped.
const (
	minESP, maxESP   = 64, 4096
	minSlot, maxSlot = 16, 65536
	// The header of LUKS takes 2 MiB, the journals of dm-integrity and ext4
	// about 20.
	minState, maxState = 64, 1 << 24
	minSwap, maxSwap   = 16, 1 << 20
)

var (
	nameForm    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	versionForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})$`)
)

// Parse reads a product. Unknown keys and missing fields are errors.
func Parse(text []byte) (Product, error) {
	var p Product
	decoder := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			row, _ := strict.Errors[0].Position()
			return Product{}, fmt.Errorf("line %d: unknown key %v", row, strict.Errors[0].Key())
		case errors.As(err, &decode):
			row, _ := decode.Position()
			return Product{}, fmt.Errorf("line %d: %w", row, err)
		}
		return Product{}, err
	}
	return p, p.check()
}

func (p Product) check() error {
	switch {
	case !nameForm.MatchString(p.Name):
		return fmt.Errorf("name = %q is not lower-case letters, digits and hyphens", p.Name)
	case p.Title == "":
		return errors.New("title is missing")
	case !versionForm.MatchString(p.Release.Version):
		return fmt.Errorf("release.version = %q is not X.Y.Z", p.Release.Version)
	case p.Release.SecurityVersion == 0:
		return errors.New("release.security_version is missing: it counts from 1")
	case p.Release.Floor > p.Release.SecurityVersion:
		return fmt.Errorf("release.floor = %d is above release.security_version = %d: the release would lock itself out", p.Release.Floor, p.Release.SecurityVersion)
	case p.Release.Epoch() <= 0:
		return errors.New("release.date is missing")
	case p.Disk.ESP < minESP || p.Disk.ESP > maxESP:
		return fmt.Errorf("disk.esp = %d is not between %d and %d MiB", p.Disk.ESP, minESP, maxESP)
	case p.Disk.Slot < minSlot || p.Disk.Slot > maxSlot:
		return fmt.Errorf("disk.slot = %d is not between %d and %d MiB", p.Disk.Slot, minSlot, maxSlot)
	case p.Disk.State < minState || p.Disk.State > maxState:
		return fmt.Errorf("disk.state = %d is not between %d and %d MiB", p.Disk.State, minState, maxState)
	case p.Disk.Swap != 0 && (p.Disk.Swap < minSwap || p.Disk.Swap > maxSwap):
		return fmt.Errorf("disk.swap = %d is neither 0 nor between %d and %d MiB", p.Disk.Swap, minSwap, maxSwap)
	}
	switch u := p.State.Unlock; {
	case u != "" && u != TPM && u != Passphrase:
		return fmt.Errorf("state.unlock = %q is neither %q nor %q", u, TPM, Passphrase)
	case u == Passphrase && p.Release.Floor > 0:
		return fmt.Errorf("release.floor = %d with state.unlock = %q: without a TPM no machine can keep a floor", p.Release.Floor, u)
	}
	if p.Services == nil {
		return errors.New("services is missing: an empty list says that there are none")
	}
	for i, name := range p.Services {
		if !nameForm.MatchString(name) || slices.Contains(p.Services[:i], name) {
			return fmt.Errorf("services has %q, which is not a name of image/services, once", name)
		}
	}
	if err := network.Check(p.Networks); err != nil {
		return err
	}
	for i, a := range p.Assertions {
		if _, err := flow.ParseAssertion(a.Assert); err != nil {
			return fmt.Errorf("assertions: %w", err)
		}
		if a.Why == "" || strings.ContainsFunc(a.Why, unicode.IsControl) {
			return fmt.Errorf("assertions: %q has no reason of one line beside it", a.Assert)
		}
		if slices.ContainsFunc(p.Assertions[:i], func(b Assertion) bool { return a.Assert == b.Assert }) {
			return fmt.Errorf("assertions: %q stands there twice", a.Assert)
		}
	}
	return nil
}

// Epoch returns the release's date in seconds since 1970, at midnight UTC:
// the SOURCE_DATE_EPOCH of everything that is built.
func (r Release) Epoch() int64 {
	if r.Date == (toml.LocalDate{}) {
		return 0
	}
	return r.Date.AsTime(time.UTC).Unix()
}
