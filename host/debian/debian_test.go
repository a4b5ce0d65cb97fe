package debian

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloison/format/hint"
	"cloison/format/packagelist"
)

func TestOwnArchive(t *testing.T) {
	targets := `'https://third.example/apt/dists/bookworm/InRelease' third.example_InRelease 0
'https://third.example/apt/dists/bookworm/stable/binary-amd64/Packages.xz' third.example_Packages 0
'http://mirror.example/debian/dists/bookworm/contrib/binary-amd64/Packages.xz' mirror.example_contrib 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.example_main 0
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' mirror.example_updates 0
'http://mirror.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' mirror.example_security 0
`
	want := Archive{"http://mirror.example/debian/", "http://mirror.example/debian-security/"}
	if got := ownArchive(targets, "bookworm"); got != want {
		t.Errorf("ownArchive = %v, want %v", got, want)
	}
	if got := ownArchive(targets, "trixie"); got != (Archive{}) {
		t.Errorf("ownArchive for another suite = %v, want none", got)
	}
}

func TestParseSums(t *testing.T) {
	digest := strings.Repeat("a", 64)
	got, err := parseSums(digest + "  /r/var/cache/apt/archives/clang_1%3a22.1-5_amd64.deb\n" + digest + "  /r/a_1_all.deb\n")
	want := []packagelist.Package{
		{Name: "a", Version: "1", Architecture: "all", SHA256: digest},
		{Name: "clang", Version: "1:22.1-5", Architecture: "amd64", SHA256: digest},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("parseSums: %v, -want +got:\n%s", err, diff)
	}
}

// What a mirror can do wrong, with the real apt: each is refused, the advice
// fits, and nothing is unpacked.
func TestBadMirrors(t *testing.T) {
	real, err := FindArchive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + closed.Addr().String()
	closed.Close()
	for _, test := range []struct {
		name, mirror, want string
	}{
		{"nobody there", nobody, "check the network"},
		{"404", serve(t, http.NotFoundHandler()), "the mirror lacks a file"},
		{"index changed", serve(t, changing(t, real.Main, "/Packages.")), "not what Debian signed"},
		{"package changed", serve(t, changing(t, real.Main, "/hostname_")), "not what Debian signed"},
		{"tool changed", serve(t, changing(t, real.Main, "/mmdebstrap_")), "not what Debian signed"},
		{"signature changed", serve(t, changing(t, real.Main, "/InRelease")), "not what Debian signed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "root")
			_, err := Unpack(t.Context(), Archive{Main: test.mirror}, []string{"trixie"}, []string{"hostname"}, root, t.TempDir())
			if err == nil || !strings.Contains(hint.Of(err), test.want) {
				t.Errorf("Unpack = %v (hint %q), want advice with %q", err, hint.Of(err), test.want)
			}
			if _, err := os.Stat(filepath.Join(root, "usr/bin/hostname")); err == nil {
				t.Error("the package is unpacked all the same")
			}
		})
	}
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// changing passes a real mirror on, with one byte changed in each file whose
// path contains part.
func changing(t *testing.T, mirror, part string) http.Handler {
	t.Helper()
	base, err := url.Parse(mirror)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(base)
		r.Out.Header.Del("Range")
	}}
	proxy.ModifyResponse = func(r *http.Response) error {
		at := r.Request.URL.Path
		byHash := part == "/Packages." && strings.Contains(at, "/by-hash/")
		if r.StatusCode != http.StatusOK || !strings.Contains(at, part) && !byHash {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			return err
		}
		body[len(body)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(body))
		return nil
	}
	return proxy
}
