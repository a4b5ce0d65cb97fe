package flows

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloison/format/flow"
	"cloison/format/hint"
	"cloison/format/product"
	"cloison/format/service"
	"cloison/host/tree"
)

var update = flag.Bool("update", false, "draw the picture of the documents anew")

// gateway reads the real product.
func gateway(t *testing.T) (root string, p product.Product) {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "image/products/gateway/product.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = product.Parse(text); err != nil {
		t.Fatal(err)
	}
	return root, p
}

// TestGateway: what the product asserts holds, and the documents show it as it is.
func TestGateway(t *testing.T) {
	root, p := gateway(t)
	services, err := Services(root, p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Of(p, services)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Errorf("%v (%s)", err, hint.Of(err))
	}
	path := filepath.Join(root, "docs/flows-gateway.svg")
	got := r.Graph.SVG(r.Title)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/flows-gateway.svg shows another graph (go test ./host/flows -update draws it), -want +got:\n%s", diff)
	}
}

// TestBroken: a product that breaks an assertion is told which one, why it is
// there, and what breaks it.
func TestBroken(t *testing.T) {
	root, p := gateway(t)
	services, err := Services(root, p)
	if err != nil {
		t.Fatal(err)
	}
	p.Assertions = []product.Assertion{
		{Assert: "no service holds CAP_SYS_ADMIN", Why: "it is root by another name"},
		{Assert: "never console -> init", Why: "a test"},
	}
	err = Check(p, services)
	var broken *flow.BrokenError
	if !errors.As(err, &broken) || broken.How != "console → descriptor supervisor → PID 1" || hint.Of(err) != "it is there for a reason: a test" {
		t.Errorf("Check = %v (%s)", err, hint.Of(err))
	}
	p.Assertions = []product.Assertion{{Assert: "never consol -> init", Why: "a test"}}
	if err := Check(p, services); err == nil || errors.As(err, &broken) {
		t.Errorf("Check of a service that is not there = %v, want another error", err)
	}
}

func TestServicesRefuses(t *testing.T) {
	root, p := gateway(t)
	p.Services = []string{"consol"}
	_, err := Services(root, p)
	if err == nil || !strings.Contains(err.Error(), `unknown service "consol"`) || hint.Of(err) != "did you mean console?" {
		t.Errorf("Services = %v (%s), want that consol is unknown", err, hint.Of(err))
	}
}

// TestRoom: what services may keep has to fit into half of the state volume, all
// of it at once.
func TestRoom(t *testing.T) {
	services := []*service.Service{
		{Limits: service.Limits{State: 24 << 20, StateFiles: 256}},
		{Limits: service.Limits{State: 8 << 20, StateFiles: 256}},
		{},
	}
	if err := checkRoom(services, 64<<20); err != nil {
		t.Errorf("checkRoom of half a volume = %v", err)
	}
	services[2].Limits.State = 4096
	if err := checkRoom(services, 64<<20); err == nil || !strings.Contains(err.Error(), "services may keep 32772 KiB") {
		t.Errorf("checkRoom of more than half a volume = %v", err)
	}
	services[2].Limits = service.Limits{StateFiles: 1}
	if err := checkRoom(services, 64<<20); err == nil || !strings.Contains(err.Error(), "513 files") {
		t.Errorf("checkRoom of more than half of the files = %v", err)
	}
	// The real product is refused where its state volume is too small.
	root, p := gateway(t)
	p.Disk.State = 1
	if _, err := Services(root, p); err == nil || !strings.Contains(err.Error(), "limits.state") {
		t.Errorf("Services of a product with too small a volume = %v", err)
	}
}
