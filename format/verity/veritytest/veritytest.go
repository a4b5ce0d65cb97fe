// Package veritytest holds images that veritysetup 2.7.5 formatted, as recipes
// and digests, for the tests of package verity and of package fec. It needs
// nothing but the standard library.
package veritytest

import "math/rand/v2"

// Salt and UUID of every image.
var (
	Salt = [32]byte{0: 0xc0, 1: 0xff, 2: 0xee, 31: 0x01}
	UUID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// Image is what veritysetup format wrote behind Data(DataBlocks), with the
// options --data-blocks, --salt, --uuid, and --hash-offset, --fec-device,
// --fec-offset and --fec-roots so that data, hash area and parity touch.
type Image struct {
	DataBlocks uint64
	Roots      int
	Root       string // root hash, hex
	Hashes     string // SHA-256 of the hash area with its superblock, hex
	Parity     string // SHA-256 of the parity, hex
}

// Images were formatted once and for all; test/peer formats others anew.
var Images = []Image{
	{
		1, 2, "6ab51001b21f70833d4cd57c66eff0cbb1a5c1b5126ed88ade661acc6b01d862",
		"bb91e1a2879c346ceebb440770f59fc22f934cfbe9af5bf190c7c1b5ce8d23dc",
		"ee93c3dc0e60b1dec5fafbd4d4579aceb6816eb2c744156f765c25d7a19edbec",
	},
	{
		2, 2, "f4c00160b9000b30c33ad9905869325ec5cb1989e9ce0d0db6dfe0e805c9028f",
		"cc02b85cf76242a64b2b20cc7accaaa06d0429e635f766dffec5b625c6a92516",
		"9fc7fb2133acf82b704ffe6fa80f21526227b134f649dd0858fe0a62d846e8af",
	},
	{
		127, 2, "a44da4d390b079a771f658bd76dd144f4833079929f30830e59d5b0bb3f23fa1",
		"d5ad38be5e47736604b229a504ea59127656adb74469c45c25e578a2e1f03260",
		"caca5a966aad9285b11748acdcafee6e78ffde48f127594b1f27b5d98e9e9279",
	},
	{
		128, 2, "72a9116fedc775a901607beee5dc4c5f95e2e21b45bd1fc20818366dfec1ea9b",
		"fbd6c205057034004728d2526c0f5d067c816087c5ecd57199c1f804fa2e1590",
		"7e88257437fdbcd3ad7f218d8ac4572ae7cf5697da46624ac1b9af996fce400d",
	},
	{
		129, 2, "d4096ccf6088bcdfb34294fd72f981979e035dbeea259a87f6262b7cf0a63ff4",
		"f3413f6ee51657ce6fc4f5dfaea46941204c6886f0963d34818211c4f399fc68",
		"aa877aa5c77fc689fbee587e7365ea6b976852138d6107e33cd5a592212a7db6",
	},
	{
		253, 2, "85173a15f88f20fefb61b8bc4a9c0f61dc929aa307e24fb3e25d0a69dc45d90a",
		"f376111a4c0a62cfc6456a94fff8bde2ffc8f9f2f30a663a30f4dacc82b64824",
		"a46c219fd347083774f2715591c11f6e19c39c840b4ba04dbcbd600ce4dd3033",
	},
	{
		300, 24, "8a47e007aabbef217176038e6ee4f7b76bd0102c10ac6401b6d421d21d61bbef",
		"6ac9014120cd9bd18ab684f923fd723cfa15212de996692c280d80f7101633c2",
		"785e6e93bc4dcd10687925d434bbfd2bade42bd3ce2e12d5fba3f4a50e8fd1b3",
	},
	{
		16385, 2, "6f7acdfcc92eb016433b815e965c151d3babdb61316ddff278c0cbf6d31888f1",
		"d42c47435a38de601b0efa866f82e841361697bbde9e946a57d0ad23b0561452",
		"27a3741ebeb7aa7fad43eb8d9407b52c3cda59f8db9cde177cbd7201b7a3ecee",
	},
}

// Data returns that many blocks of 4096 bytes that look random and are always
// the same.
func Data(blocks uint64) []byte {
	b := make([]byte, blocks*4096)
	// The generator's Read is documented never to fail.
	_, _ = rand.NewChaCha8([32]byte{byte(blocks)}).Read(b)
	return b
}
