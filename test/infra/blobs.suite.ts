import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Blobs } from '../../infra/blobs/blobs.ts'

/** Both adapters keep what blobs.ts promises: the same tests, on the real thing. */
export function blobsSuite(name: string, skip: boolean, create: () => Promise<{ blobs: Blobs; stop(): Promise<void> }>): void {
  describe.skipIf(skip)(name, () => {
    let blobs: Blobs
    let stop: () => Promise<void> = async () => undefined
    beforeAll(async () => ({ blobs, stop } = await create()))
    afterAll(() => stop())

    test('what was put is what is got, also nothing at all', async () => {
      expect(await blobs.put('packs/0/1-9', noise(100_000), { contentType: 'application/octet-stream' })).toEqual({ size: 100_000 })
      expect(same(await blobs.get('packs/0/1-9'), noise(100_000))).toBe(true)
      expect(await blobs.put('empty', new Uint8Array())).toEqual({ size: 0 })
      expect(await blobs.get('empty')).toHaveLength(0)
      expect(await blobs.head('empty')).toMatchObject({ size: 0 })
    })

    test('a stream is put whole, in chunks of any size, beyond one part', async () => {
      const content = noise(17 * 1024 * 1024 + 5)
      expect(await blobs.put('large/one', Readable.from(chunks(content, 300_001)))).toEqual({ size: content.length })
      expect(same(await blobs.get('large/one'), content)).toBe(true)
      expect(await blobs.put('large/exact', Readable.from(chunks(content.subarray(0, 16 * 1024 * 1024), 1 << 20)))).toEqual({ size: 16 * 1024 * 1024 })
      expect((await blobs.head('large/exact'))?.size).toBe(16 * 1024 * 1024)
      expect(await blobs.put('large/none', Readable.from([]))).toEqual({ size: 0 })
      expect(await blobs.get('large/none')).toHaveLength(0)
    })

    test('a stream that fails leaves what was there before, and its own error is the one that is thrown', async () => {
      await blobs.put('kept', Buffer.from('before'))
      for (const bytes of [10, 20 * 1024 * 1024]) {
        async function* failing() {
          yield* chunks(noise(bytes), 1 << 20)
          throw new RangeError('the device went away')
        }
        await expect(blobs.put('kept', Readable.from(failing()))).rejects.toThrow(RangeError)
      }
      expect(Buffer.from((await blobs.get('kept'))!).toString()).toBe('before')
      expect(await keys(blobs, 'kept')).toEqual(['kept'])
    })

    test('a stream that breaks before its first byte was asked for fails its put, and nothing else', async () => {
      const body = new Readable({ read: () => undefined })
      const put = blobs.put('never', body)
      body.destroy(new RangeError('the device went away at once'))
      await expect(put).rejects.toThrow(RangeError)
      expect(await blobs.head('never')).toBeNull()
    })

    test('a second put replaces the blob whole', async () => {
      await blobs.put('twice', noise(5_000))
      await blobs.put('twice', Buffer.from('short'))
      expect(Buffer.from((await blobs.get('twice'))!).toString()).toBe('short')
    })

    test('a range is [start, end), cut at the end of the blob', async () => {
      await blobs.put('range', Buffer.from('0123456789'))
      const range = async (start: number, end: number) => Buffer.from((await blobs.get('range', { start, end }))!).toString()
      expect(await range(0, 1)).toBe('0')
      expect(await range(3, 7)).toBe('3456')
      expect(await range(8, 100)).toBe('89')
      expect(await range(4, 4)).toBe('')
      expect(await range(10, 12)).toBe('')
      expect(await range(90, 99)).toBe('')
    })

    test('what is not there is null, and deleting it is fine', async () => {
      await blobs.put('folder/leaf', Buffer.from('x'))
      for (const key of ['absent', 'no/such/folder', 'folder', 'folder/other']) {
        expect(await blobs.get(key)).toBeNull()
        expect(await blobs.head(key)).toBeNull()
      }
      await blobs.delete('absent')
      await blobs.delete('folder/leaf')
      await blobs.delete('folder/leaf')
      expect(await blobs.get('folder/leaf')).toBeNull()
    })

    test('list gives the keys below a prefix, cut anywhere, in the order of their bytes', async () => {
      const made = ['list/a-b/1', 'list/a/1', 'list/a/2', 'list/ab', 'list/b/c/d', 'lista']
      for (const key of made) await blobs.put(key, Buffer.from(key))
      expect(await keys(blobs, 'list/')).toEqual(['list/a-b/1', 'list/a/1', 'list/a/2', 'list/ab', 'list/b/c/d'])
      expect(await keys(blobs, 'list')).toEqual(['list/a-b/1', 'list/a/1', 'list/a/2', 'list/ab', 'list/b/c/d', 'lista'])
      expect(await keys(blobs, 'list/a/')).toEqual(['list/a/1', 'list/a/2'])
      expect(await keys(blobs, 'list/b/c')).toEqual(['list/b/c/d'])
      expect(await keys(blobs, 'nothing')).toEqual([])
      for await (const { key, size, modifiedAt } of blobs.list('list/')) {
        expect(size).toBe(key.length)
        expect(Math.abs(Date.now() - modifiedAt)).toBeLessThan(600_000)
      }
    })

    test('a key can not leave the store', async () => {
      for (const key of ['', '/', '/etc/passwd', '..', 'a/../../b', 'a//b', 'a/', '.unfinished/x', 'a/.hidden', 'a\\b', 'a\0b', 'ä', 'x'.repeat(600)]) {
        await expect(blobs.put(key, Buffer.from('x'))).rejects.toThrow(TypeError)
        await expect(blobs.get(key)).rejects.toThrow(TypeError)
        await expect(blobs.head(key)).rejects.toThrow(TypeError)
        await expect(blobs.delete(key)).rejects.toThrow(TypeError)
      }
      await expect(keys(blobs, '../')).rejects.toThrow(TypeError)
    })

    test('check passes while the store is there', async () => {
      await blobs.check()
    })
  })
}

export async function keys(blobs: Blobs, prefix: string): Promise<string[]> {
  const found: string[] = []
  for await (const { key } of blobs.list(prefix)) found.push(key)
  return found
}

/** Bytes without a short period, so that parts in a wrong order show. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let i = 0, x = 1; i < length; i++) {
    x = (x * 1_103_515_245 + 12_345) >>> 0
    bytes[i] = x >>> 16
  }
  return bytes
}

function* chunks(content: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size)
}

const same = (got: Uint8Array | null, wanted: Uint8Array): boolean => got !== null && Buffer.compare(got, wanted) === 0
