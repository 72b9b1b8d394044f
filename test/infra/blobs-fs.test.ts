import { mkdirSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, describe, expect, test } from 'vitest'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import { scratch } from '../system/java.ts'
import { blobsSuite } from './blobs.suite.ts'

const folders: string[] = []
const folder = () => folders[folders.push(scratch('blobs')) - 1]!
afterAll(() => { for (const directory of folders) rmSync(directory, { recursive: true, force: true }) })

blobsSuite('blobs as files', false, async () => ({ blobs: await openFsBlobs({ directory: folder() }), stop: async () => undefined }))

describe('blobs as files, on the disk', () => {
  test('a put that is under way shows nothing, and a failed one leaves no file behind', async () => {
    const directory = folder()
    const blobs = await openFsBlobs({ directory })
    const body = new Readable({ read() {} })
    body.push(Buffer.alloc(100_000))
    const put = blobs.put('a/b', body)
    while (readdirSync(join(directory, '.unfinished')).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(await blobs.head('a/b')).toBeNull()
    body.destroy(new Error('gone'))
    await expect(put).rejects.toThrow('gone')
    expect(readdirSync(join(directory, '.unfinished'))).toEqual([])
    expect(await blobs.get('a/b')).toBeNull()
  })

  test('opening removes what a killed process left long ago, and leaves what may be another one\'s work', async () => {
    const directory = folder()
    mkdirSync(join(directory, '.unfinished'))
    for (const name of ['old', 'new']) writeFileSync(join(directory, '.unfinished', name), 'half')
    utimesSync(join(directory, '.unfinished', 'old'), 0, 0)
    await openFsBlobs({ directory })
    expect(readdirSync(join(directory, '.unfinished'))).toEqual(['new'])
  })

  test('a blob is no folder: there is nothing below it', async () => {
    const blobs = await openFsBlobs({ directory: folder() })
    await blobs.put('a', Buffer.from('x'))
    expect(await blobs.get('a/b')).toBeNull()
    await expect(blobs.put('a/b', Buffer.from('x'))).rejects.toMatchObject({ name: 'BrokenWorld' })
    expect(await blobs.head('a')).toMatchObject({ size: 1 })
  })

  test('a store whose folder is gone is a broken world', async () => {
    const directory = folder()
    const blobs = await openFsBlobs({ directory })
    rmSync(directory, { recursive: true })
    symlinkSync('/dev/null', directory)
    await expect(blobs.check()).rejects.toMatchObject({ name: 'BrokenWorld', code: 'blobs-unreachable', retryable: true })
    await expect(blobs.put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'blobs-unreachable' })
  })
})
