#include "textflag.h"

// func int80() int32: getpid of the 32-bit table.
TEXT ·int80(SB), NOSPLIT, $0-4
	MOVL $20, AX
	INT $0x80
	MOVL AX, ret+0(FP)
	RET

// func sleeper(flags, stack uintptr) syscall.Errno: clone(2); the new thread
// calls pause(2) for ever.
TEXT ·sleeper(SB), NOSPLIT, $0-24
	MOVQ $56, AX
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	XORQ DX, DX
	XORQ R10, R10
	XORQ R8, R8
	SYSCALL
	CMPQ AX, $0
	JEQ  asleep
	MOVQ $0, R9
	CMPQ AX, $0xfffffffffffff001
	JLS  done
	NEGQ AX
	MOVQ AX, R9
done:
	MOVQ R9, ret+16(FP)
	RET
asleep:
	MOVQ $34, AX
	SYSCALL
	JMP  asleep
