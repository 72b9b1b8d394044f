import { hash } from 'node:crypto'
import { encode, rfc8949EncodeOptions } from 'cborg'

/**
 * The name of a crash: a hash over what makes it this crash and no other, so that a repeated upload gets the same id
 * without asking anybody. Not the dump's hash alone (two devices can send equal dumps), and not the signature (a device
 * that tries again signs anew).
 *
 *   signed:    first 16 bytes of SHA-256(dCBOR ["crash/1", fleet, device key id: bstr, bootcount, seq, digest: bstr])
 *   unsigned:  first 16 bytes of SHA-256(dCBOR ["crash/0", fleet, source, digest: bstr])
 *
 * Ids and digests are lower-case hex on both sides.
 */
export function crashId(crash: { fleet: string; deviceKeyId: string; bootcount: number; seq: number; digest: string }): string {
  return nameOf(['crash/1', crash.fleet, bytes(crash.deviceKeyId), crash.bootcount, crash.seq, bytes(crash.digest)])
}

/** Who sent an unsigned report is not known; the network it came from stands in for the device. */
export function unsignedCrashId(crash: { fleet: string; source: string; digest: string }): { id: string; deviceId: string } {
  return {
    id: nameOf(['crash/0', crash.fleet, crash.source, bytes(crash.digest)]),
    deviceId: `source:${nameOf(['source/0', crash.fleet, crash.source])}`,
  }
}

const bytes = (hex: string): Uint8Array => Buffer.from(hex, 'hex')
const nameOf = (parts: readonly unknown[]): string => hash('sha256', encode(parts, rfc8949EncodeOptions), 'hex').slice(0, 32)
