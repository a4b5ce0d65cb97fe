// Package seal keeps the secret of the state volume in the TPM: it is given out
// only in the initramfs of a release that the integrator signed, with the Secure
// Boot state seen at sealing, and to no release below the TPM's floor.
//
// It needs a TPM 2.0 with a SHA-256 bank, and the policy key and signature that
// systemd-stub hands over from the UKI (/.extra). The TPM holds:
//
//   - the storage root key (SRK), ECC P-256 of the TCG's template, at 0x81000001;
//   - the floor, an NV index of 8 bytes: the least security version that gets
//     the secret. Nobody can write it but with the policy key's signature, and
//     no signature lowers it;
//   - the mark, an NV index of 32 bytes: this TPM was provisioned, and for this
//     volume. It is HMAC-SHA-256 of the volume's identity under the secret, so
//     that a volume which somebody else made and sealed does not match.
//
// The authorisations of the owner and lockout hierarchies are made from the
// secret: whoever has no volume cannot delete the indexes.
//
// First boot, in this order, so that power may fail anywhere:
//
//	secret, token := Provision()   // nothing is final: may be done again
//	(format the volume with secret.Key, import token)
//	Commit(secret, identity)       // from here on never formatted again
//
// Each boot: Unseal(token, identity), and then PCR 11 is extended. Where a
// change of PCR 7 is planned, Seal for the value to come stands between the two.
//
// Source: TCG TPM 2.0 Library, Part 1 (sections 11 sessions, 19.7 policies),
// Part 3; TCG TPM 2.0 Provisioning Guidance, section 7.5.1.
package seal
