import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectS3Blobs, type S3BlobsOptions } from '../../infra/blobs/s3.ts'
import { needs } from '../system/java.ts'
import { startS3, type S3Server } from '../system/s3.ts'
import { blobsSuite, keys } from './blobs.suite.ts'

const { skip, note } = needs('s3proxy')
let server: S3Server
beforeAll(async () => { if (!skip) server = await startS3() })
afterAll(() => server?.stop())

const connect = (change: Partial<S3BlobsOptions> = {}) => {
  const { endpoint, region, bucket, credentials } = server
  return connectS3Blobs({ endpoint, region, bucket, credentials, forcePathStyle: true, ...change })
}

blobsSuite(`blobs in S3${note}`, skip, async () => ({ blobs: await connect(), stop: async () => undefined }))

describe.skipIf(skip)(`blobs in S3, beyond files${note}`, () => {
  test('a wrong secret and a bucket that is not there are refused, and trying again does not help', async () => {
    const credentials = { ...server.credentials, secretAccessKey: 'wrong' }
    const stranger = await connect({ credentials })
    await expect(stranger.check()).rejects.toMatchObject({ name: 'BrokenWorld', code: 'blobs-refused', retryable: false })
    const error: unknown = await stranger.get('a').catch((reason: unknown) => reason)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('Credential=')
    await expect(stranger.put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'blobs-refused' })
    const lost = await connect({ bucket: 'no-such-bucket' })
    await expect(lost.check()).rejects.toMatchObject({ code: 'blobs-refused' })
    await expect(lost.get('a')).rejects.toMatchObject({ code: 'blobs-refused' })
  })

  test('a store that does not answer is a broken world that may pass', async () => {
    const away = await connect({ endpoint: 'http://127.0.0.1:1' })
    await expect(away.check()).rejects.toMatchObject({ name: 'BrokenWorld', code: 'blobs-unreachable', retryable: true })
    await expect(away.get('a')).rejects.toMatchObject({ code: 'blobs-unreachable' })
  })

  test('list reads page after page', async () => {
    const blobs = await connect()
    const made = Array.from({ length: 1_050 }, (_, i) => `pages/${String(i).padStart(4, '0')}`)
    // Straight into the folder that the server serves: a thousand uploads would test nothing but patience.
    mkdirSync(join(server.folder, 'pages'))
    for (const key of made) writeFileSync(join(server.folder, key), 'x')
    expect(await keys(blobs, 'pages/')).toEqual(made)
  })

  test('an upload that fails half-way is aborted', async () => {
    const blobs = await connect()
    async function* failing() {
      for (let i = 0; i < 20; i++) yield Buffer.alloc(1 << 20)
      throw new RangeError('gone')
    }
    await expect(blobs.put('half', Readable.from(failing()))).rejects.toThrow(RangeError)
    const s3 = new S3Client({ endpoint: server.endpoint, region: server.region, credentials: server.credentials, forcePathStyle: true })
    const { Uploads = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket: server.bucket }))
    expect(Uploads).toEqual([])
    expect(await blobs.head('half')).toBeNull()
  })
})
