import {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CreateMultipartUploadCommand, DeleteObjectCommand, GetObjectCommand,
  HeadBucketCommand, HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client, S3ServiceException, UploadPartCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3'
import type { Readable } from 'node:stream'
import type { Blobs } from './blobs.ts'
import { checkKey, checkPrefix } from './key.ts'
import { blobsBroken } from './outcome.ts'

export interface S3BlobsOptions {
  /** Only for stores that aren't AWS. */
  endpoint?: string
  region: string
  bucket: string
  /** Otherwise where the SDK finds them: environment, profile, the machine's role. */
  credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string }
  /** The bucket in the path, not in the host name: most stores that aren't AWS need it. */
  forcePathStyle?: boolean
}

/**
 * Blobs as objects of one S3 bucket.
 *
 * Promise: put() resolves when S3 has the object, checked by CRC-32 on the way (the SDK adds and verifies it). A stream
 * goes up in parts of 5 MiB, the least that S3 takes, one at a time out of one buffer, so an upload holds one part and no
 * more. (@aws-sdk/lib-storage gathers a part in pieces and then copies them into one, so it holds each twice.) What fails
 * is aborted and leaves nothing.
 */
const PART_BYTES = 5 * 1024 * 1024
const MAX_PARTS = 10_000
const CHECKSUM = { ChecksumAlgorithm: 'CRC32' } as const

export async function connectS3Blobs({ endpoint, region, bucket: Bucket, credentials, forcePathStyle = false }: S3BlobsOptions): Promise<Blobs> {
  const s3 = new S3Client({
    region,
    forcePathStyle,
    maxAttempts: 3,
    // Asking first whether a part may come saves nothing with one buffer of it, and costs up to 6 s a part where a store (s3proxy) never says go on.
    expectContinueHeader: false,
    // Without the last one a request past its time is only warned of.
    requestHandler: { connectionTimeout: 3_000, requestTimeout: 60_000, throwOnRequestTimeout: true },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
  })

  async function putStream(Key: string, body: Readable, ContentType: string | undefined): Promise<number> {
    const parts = partsOf(body)
    const first = await parts.next()
    const head = first.done ? new Uint8Array() : first.value
    if (head.byteLength < PART_BYTES) {
      await world('put', () => s3.send(new PutObjectCommand({ Bucket, Key, Body: head, ContentType, ...CHECKSUM })))
      return head.byteLength
    }
    const { UploadId } = await world('put', () => s3.send(new CreateMultipartUploadCommand({ Bucket, Key, ContentType, ...CHECKSUM })))
    const upload = { Bucket, Key, UploadId }
    try {
      let size = 0
      const Parts: CompletedPart[] = []
      for (let part: IteratorResult<Uint8Array, void> = first; !part.done; part = await parts.next()) {
        const Body = part.value
        const PartNumber = Parts.length + 1
        if (PartNumber > MAX_PARTS) throw blobsBroken('blobs-too-large', `${Key} has more than ${MAX_PARTS} parts`)
        const { ETag, ChecksumCRC32 } = await world('put', () => s3.send(new UploadPartCommand({ ...upload, PartNumber, Body, ...CHECKSUM })))
        Parts.push({ PartNumber, ETag, ChecksumCRC32 })
        size += Body.byteLength
      }
      await world('put', () => s3.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } })))
      return size
    } catch (error) {
      // Best effort: when S3 is gone too, the bucket's lifecycle rule for unfinished uploads has to do it.
      await s3.send(new AbortMultipartUploadCommand(upload)).catch(() => undefined)
      throw error
    }
  }

  return {
    streamBytes: PART_BYTES,

    async put(key, body, { contentType } = {}) {
      checkKey(key)
      if (!(body instanceof Uint8Array)) return { size: await putStream(key, body, contentType) }
      await world('put', () => s3.send(new PutObjectCommand({ Bucket, Key: key, Body: body, ContentType: contentType, ...CHECKSUM })))
      return { size: body.byteLength }
    },

    async get(key, range) {
      checkKey(key)
      const whole = range === undefined
      // An empty range can't be said in HTTP: ask for one byte and give none of it.
      const wanted = whole ? {} : { Range: `bytes=${range.start}-${Math.max(range.start, range.end - 1)}` }
      const length = whole ? Infinity : Math.max(0, range.end - range.start)
      return world('get', async () => {
        try {
          const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key: key, ...wanted }))
          return (await Body?.transformToByteArray() ?? new Uint8Array()).subarray(0, length)
        } catch (error) {
          if (isAbsent(error)) return null
          if (statusOf(error) === 416) return new Uint8Array()
          throw error
        }
      })
    },

    async head(key) {
      checkKey(key)
      return world('head', async () => {
        try {
          const { ContentLength = 0, LastModified } = await s3.send(new HeadObjectCommand({ Bucket, Key: key }))
          return { size: ContentLength, modifiedAt: LastModified?.getTime() ?? 0 }
        } catch (error) {
          if (isAbsent(error)) return null
          throw error
        }
      })
    },

    async *list(prefix) {
      checkPrefix(prefix)
      let ContinuationToken: string | undefined
      do {
        const page = await world('list', () => s3.send(new ListObjectsV2Command({ Bucket, Prefix: prefix, ContinuationToken })))
        for (const { Key = '', Size = 0, LastModified } of page.Contents ?? []) yield { key: Key, size: Size, modifiedAt: LastModified?.getTime() ?? 0 }
        ContinuationToken = page.NextContinuationToken
      } while (ContinuationToken !== undefined)
    },

    async delete(key) {
      checkKey(key)
      await world('delete', () => s3.send(new DeleteObjectCommand({ Bucket, Key: key })))
    },

    async check() {
      await world('check', () => s3.send(new HeadBucketCommand({ Bucket })))
    },
  }
}

/** The stream in pieces of PART_BYTES, the last one shorter; each is good until the next is asked for. */
async function* partsOf(body: Readable): AsyncGenerator<Uint8Array, void> {
  const part = Buffer.allocUnsafeSlow(PART_BYTES)
  let bytes = 0
  for await (const chunk of body) {
    let rest: Uint8Array = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    while (rest.byteLength > 0) {
      const fits = Math.min(rest.byteLength, PART_BYTES - bytes)
      part.set(rest.subarray(0, fits), bytes)
      bytes += fits
      rest = rest.subarray(fits)
      if (bytes < PART_BYTES) continue
      yield part
      bytes = 0
    }
  }
  if (bytes > 0) yield part.subarray(0, bytes)
}

const statusOf = (error: unknown): number | undefined => (error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined)
const isAbsent = (error: unknown): boolean => statusOf(error) === 404 && (error as Error).name !== 'NoSuchBucket'

async function world<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const status = statusOf(error)
    const refused = status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429
    throw blobsBroken(refused ? 'blobs-refused' : 'blobs-unreachable', what, plain(error))
  }
}

/** The SDK's errors carry the whole request, its signature and the socket; none of that belongs into a log. */
function plain(error: unknown): Error {
  const { name, message, code } = error as Error & { code?: unknown }
  return new Error([name, statusOf(error), code, message].filter((part) => part !== undefined && part !== '').join(' '))
}
