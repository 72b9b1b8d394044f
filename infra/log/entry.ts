import { crc32 } from 'node:zlib'
import type { LogEntry } from './log.ts'

/**
 * One stored entry of the embedded log. lmdb keeps no checksums: bytes that rot on the disk come back as they are.
 *
 *   entry   = version:u8(1) crc:u32 appendedAt:f64 keyLength:u32 headersLength:u32 key:utf8 headers:json value
 *   crc     = CRC-32 over place, then over everything that follows the crc field
 *   place   = topic "/" partition "/" offset      so that a sound entry in a wrong place is a fault too
 *
 * Big-endian. A CRC finds rot, not an attacker: whoever can write this file owns the machine.
 */
const VERSION = 1
const CRC_AT = 1
const COVERED_FROM = 5
const KEY_LENGTH_AT = 13
const HEADERS_LENGTH_AT = 17
const HEAD = 21

export interface EntryContent { key: string; value: Uint8Array; headers: Record<string, string>; appendedAt: number }

export const placeOf = (topic: string, partition: number, offset: number): string => `${topic}/${partition}/${offset}`

export function encodeEntry(place: string, { key, value, headers, appendedAt }: EntryContent): Buffer {
  const headerText = JSON.stringify(headers)
  const keyLength = Buffer.byteLength(key)
  const headersLength = Buffer.byteLength(headerText)
  const stored = Buffer.allocUnsafeSlow(HEAD + keyLength + headersLength + value.byteLength)
  stored[0] = VERSION
  stored.writeDoubleBE(appendedAt, COVERED_FROM)
  stored.writeUInt32BE(keyLength, KEY_LENGTH_AT)
  stored.writeUInt32BE(headersLength, HEADERS_LENGTH_AT)
  stored.write(key, HEAD)
  stored.write(headerText, HEAD + keyLength)
  stored.set(value, HEAD + keyLength + headersLength)
  stored.writeUInt32BE(checksum(place, stored), CRC_AT)
  return stored
}

/** Never throws: stored bytes that are not what was written come back whole as `value`, with the fault. */
export function decodeEntry(place: string, offset: number, stored: Buffer): LogEntry {
  const sound = stored.length >= HEAD && stored[0] === VERSION && stored.readUInt32BE(CRC_AT) === checksum(place, stored)
  if (!sound) return { offset, key: '', value: stored, headers: {}, appendedAt: 0, fault: 'checksum-mismatch' }
  const headersAt = HEAD + stored.readUInt32BE(KEY_LENGTH_AT)
  const valueAt = headersAt + stored.readUInt32BE(HEADERS_LENGTH_AT)
  return {
    offset,
    key: stored.toString('utf8', HEAD, headersAt),
    value: stored.subarray(valueAt),
    headers: JSON.parse(stored.toString('utf8', headersAt, valueAt)) as Record<string, string>,
    appendedAt: stored.readDoubleBE(COVERED_FROM),
  }
}

/** When the log took it, as stored; unchecked, for retention and lag. NaN when there are too few bytes. */
export const appendedAtOf = (stored: Buffer): number => (stored.length >= HEAD ? stored.readDoubleBE(COVERED_FROM) : NaN)

const checksum = (place: string, stored: Buffer): number => crc32(stored.subarray(COVERED_FROM), crc32(place))
