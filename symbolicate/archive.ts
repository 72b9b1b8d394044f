import { createHash } from 'node:crypto'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { AcceptedCrash } from '../ingest/contract.ts'
import type { Archive } from './contract.ts'

/**
 * The bytes that were signed are the bytes that are kept. A batch's manifests and dumps become one object, so that small
 * dumps don't cost one PUT each; a dump that already has a blob of its own stays there, and only its manifest is packed.
 *
 *   packs/TOPIC/PARTITION/FIRST-LAST-DIGEST-LENGTH.pack = *manifest *dump    ; each in the order of the log, nothing in between
 *   LENGTH = bytes of all manifests
 *
 * The manifests come first, so that an object whose dumps have reached their age is cut to its beginning (sweep.ts), and
 * every manifest stays where its row says.
 *
 * The name follows from position and content: writing the same batch again replaces the object with the same bytes. A
 * batch that is cut differently after a restart, or a log that was set up anew and counts from 0 again, makes an object
 * of another name, and whichever a row names holds its bytes.
 */
export interface Packed { crash: AcceptedCrash; offset: number }

const NOTHING: Uint8Array = new Uint8Array(0)

export function pack(topic: string, partition: number, entries: readonly Packed[]): { name: string; bytes: Uint8Array; places: Archive[] } {
  const parts: Uint8Array[] = []
  let end = 0
  const add = (bytes: Uint8Array) => {
    const offset = end
    parts.push(bytes)
    end += bytes.length
    return { offset, length: bytes.length }
  }
  const manifests = entries.map(({ crash }) => add(crash.manifest ?? NOTHING))
  const manifestBytes = end
  const dumps = entries.map(({ crash }) => ('blob' in crash.dump ? { blob: crash.dump.blob, offset: 0, length: crash.size } : add(crash.dump.bytes)))
  const bytes = Buffer.concat(parts)
  const digits = (n: number) => String(n).padStart(16, '0')
  const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 16)
  const name = `packs/${topic}/${partition}/${digits(entries[0]?.offset ?? 0)}-${digits(entries.at(-1)?.offset ?? 0)}-${digest}-${manifestBytes}.pack`
  const places = dumps.map((dump, index): Archive => ({
    pack: 'blob' in dump ? dump.blob : name, dumpOffset: dump.offset, dumpLength: dump.length,
    manifestPack: name, manifestOffset: manifests[index]!.offset, manifestLength: manifests[index]!.length,
  }))
  return { name, bytes, places }
}

/** Durable when it resolves; `places` are in the order of `entries`. */
export async function archive(blobs: Blobs, topic: string, partition: number, entries: readonly Packed[]): Promise<Archive[]> {
  if (entries.length === 0) return []
  const { name, bytes, places } = pack(topic, partition, entries)
  await blobs.put(name, bytes, { contentType: 'application/octet-stream' })
  return places
}

/** How much of a pack is manifests; null for a pack of a version that mixed them with the dumps, and for what is no pack. */
export function manifestBytesOf(key: string): number | null {
  const [, length] = /^packs\/.+\/\d+-\d+-[0-9a-f]+-(\d+)\.pack$/.exec(key) ?? []
  return length === undefined ? null : Number(length)
}

/** `null` when the archive has lost it. */
export async function readDump(blobs: Blobs, place: Pick<Archive, 'pack' | 'dumpOffset' | 'dumpLength'>): Promise<Uint8Array | null> {
  if (place.dumpLength === 0) return NOTHING
  const bytes = await blobs.get(place.pack, { start: place.dumpOffset, end: place.dumpOffset + place.dumpLength })
  return bytes === null || bytes.length !== place.dumpLength ? null : bytes
}
