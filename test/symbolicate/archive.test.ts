import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import { archive, pack, readDump } from '../../symbolicate/archive.ts'
import { accepted } from './world.ts'

const entry = (dump: string, offset: number) => ({ crash: accepted(dump), offset })

test('every manifest and every dump of a batch is found again at its place', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-archive-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  const blobs = await openFsBlobs({ directory })
  const entries = ['first', '', 'a longer third'].map((dump, i) => entry(dump, 40 + i))
  const places = await archive(blobs, 'crashes.accepted', 3, entries)
  for (const [i, place] of places.entries()) {
    const { crash } = entries[i] as (typeof entries)[number]
    expect(Buffer.from(await readDump(blobs, place) as Uint8Array).toString()).toBe(['first', '', 'a longer third'][i])
    const manifest = await blobs.get(place.manifestPack, { start: place.manifestOffset, end: place.manifestOffset + place.manifestLength })
    expect(Buffer.from(manifest as Uint8Array)).toEqual(crash.manifest)
  }
  expect(new Set(places.map((place) => place.pack)).size).toBe(1)
})

test('the same batch makes the same object, and other bytes at the same offsets make another', () => {
  const entries = [entry('one', 0), entry('two', 1)]
  expect(pack('t', 0, entries).name).toBe(pack('t', 0, entries).name)
  expect(pack('t', 0, entries).name).toMatch(/^packs\/t\/0\/0{16}-0{15}1-[0-9a-f]{16}-\d+\.pack$/)
  expect(pack('t', 0, [entry('one', 0), entry('other', 1)]).name).not.toBe(pack('t', 0, entries).name)
})

test('a dump that the store lost or cut is missing, never half', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-archive-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  const blobs = await openFsBlobs({ directory })
  await blobs.put('short', Buffer.from('abc'))
  expect(await readDump(blobs, { pack: 'short', dumpOffset: 0, dumpLength: 4 }).catch(() => null)).toBeNull()
  expect(await readDump(blobs, { pack: 'nowhere', dumpOffset: 0, dumpLength: 4 })).toBeNull()
})
