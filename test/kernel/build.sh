# Builds the kernel's tests, static, into /build/done. Its folders stay.
set -eu
tar --extract --file=/usr/src/$SOURCE.tar.xz --directory=/build/source --strip-components=1 \
  --wildcards --no-wildcards-match-slash \
  '*/Makefile' '*/Kbuild' '*/Kconfig' '*/scripts' '*/include' '*/arch/x86' '*/usr' '*/samples/check-exec' \
  '*/tools/include' '*/tools/arch/x86' '*/tools/scripts' '*/tools/testing/selftests'
cd /build/source
make LLVM=-22 ARCH=x86_64 headers
cd tools/testing/selftests
build() { # FOLDER PROGRAM...
  folder=$1; shift
  mkdir -p /build/done/$folder
  for program; do
    clang-22 --target=x86_64-linux-gnu -fuse-ld=lld -static -O2 -w -D_GNU_SOURCE= -isystem ../../../usr/include -isystem ../../include/uapi -I. \
      -o /build/done/$folder/$program $folder/$program.c -lcap -lpthread
  done
}
names() { for file in "$@"; do basename "$file" .c; done; }
build landlock $(names landlock/*.c)
build seccomp seccomp_bpf
build mm mdwe_test
build exec check-exec false
