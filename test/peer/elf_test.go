package peer_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"cloison/format/elfhardening"
	"cloison/host/sdk/sdktest"
)

// TestHardening: programs that clang really linked, each weakened in one way.
func TestHardening(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	writeFile(t, dir, "main.c", []byte("#include <stdio.h>\nint data[3];\nint *pointer = data;\nint main(void) { return puts(\"cloison\") + *pointer; }\n"))
	// An address in code that only a relocation at start can fill in.
	writeFile(t, dir, "text.s", []byte(".text\n.globl inside\ninside: .quad main\n.section .note.GNU-stack,\"\",@progbits\n"))
	// The linker puts everything in one segment that may do anything.
	writeFile(t, dir, "wx.ld", []byte("PHDRS { all PT_LOAD FILEHDR PHDRS FLAGS(7); dynamic PT_DYNAMIC; stack PT_GNU_STACK FLAGS(6); }\n"+
		"SECTIONS { . = SIZEOF_HEADERS; .text : { *(.text*) } :all .all : { *(.rodata* .data* .bss* .got*) } :all .dynamic : { *(.dynamic) } :all :dynamic }\n"))
	const linker = "/lib64/ld-linux-x86-64.so.2"
	hardened := []string{"-static-pie", "-Wl,-z,relro,-z,now,-z,noexecstack"}
	dynamic := []string{"-pie", "-Wl,-z,relro,-z,now,-z,noexecstack"}
	for _, test := range []struct {
		name        string
		args        []string
		want        []elfhardening.Weakness
		interpreter string
	}{
		{"static PIE", hardened, nil, ""},
		{"dynamic PIE", dynamic, nil, linker},
		{"static, not PIE", []string{"-static", "-no-pie", "-Wl,-z,relro,-z,now,-z,noexecstack"}, []elfhardening.Weakness{elfhardening.NotPIE}, ""},
		{"dynamic, not PIE", append([]string{"-no-pie"}, dynamic[1:]...), []elfhardening.Weakness{elfhardening.NotPIE}, linker},
		{"shared library", []string{"-shared", "-fPIC", dynamic[1]}, []elfhardening.Weakness{elfhardening.NotPIE}, ""},
		{"no RELRO", append(slices.Clone(hardened), "-Wl,-z,norelro"), []elfhardening.Weakness{elfhardening.NoRELRO}, ""},
		{"lazy", append(slices.Clone(dynamic), "-Wl,-z,lazy"), []elfhardening.Weakness{elfhardening.LazyBinding}, linker},
		{"executable stack", append(slices.Clone(hardened), "-Wl,-z,execstack"), []elfhardening.Weakness{elfhardening.ExecutableStack}, ""},
		{"text relocations", append(slices.Clone(dynamic), "-Wl,-z,notext", "text.s"), []elfhardening.Weakness{elfhardening.TextRelocations}, linker},
		{"writable code", append(slices.Clone(hardened), "-nostdlib", "-Wl,-T,wx.ld,-e,main,--unresolved-symbols=ignore-all"), []elfhardening.Weakness{elfhardening.NoRELRO, elfhardening.WritableExecutable}, ""},
		{"RPATH", append(slices.Clone(dynamic), "-Wl,-rpath,/opt,--disable-new-dtags"), []elfhardening.Weakness{elfhardening.OwnLibraryPath}, linker},
		{"RUNPATH", append(slices.Clone(dynamic), "-Wl,-rpath,/opt,--enable-new-dtags"), []elfhardening.Weakness{elfhardening.OwnLibraryPath}, linker},
		{"defaults of old", []string{"-no-pie", "-Wl,-z,norelro,-z,lazy,-z,execstack"}, []elfhardening.Weakness{
			elfhardening.NotPIE, elfhardening.NoRELRO, elfhardening.LazyBinding, elfhardening.ExecutableStack,
		}, linker},
	} {
		mustTool(t, tools, dir, append([]string{"clang-22", "-fuse-ld=lld", "-fPIE", "-O1", "main.c", "-o", "program"}, test.args...)...)
		for _, stripped := range []bool{false, true} {
			if stripped { // what Inspect believes must not be in the sections
				mustTool(t, tools, dir, "llvm-strip-22", "--strip-sections", "program")
			}
			got, err := elfhardening.Inspect(bytes.NewReader(readFile(t, filepath.Join(dir, "program"))))
			if err != nil || !slices.Equal(got.Weaknesses, test.want) || got.Interpreter != test.interpreter {
				t.Errorf("%s, stripped %v: Inspect() = %q %q, %v, want %q %q", test.name, stripped, got.Interpreter, got.Weaknesses, err, test.interpreter, test.want)
			}
		}
	}
}
