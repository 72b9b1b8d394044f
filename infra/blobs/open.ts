import { join } from 'node:path'
import type { Blobs } from './blobs.ts'
import type { BlobSettings } from './config.ts'
import { openFsBlobs } from './fs.ts'

/** The blob store that the settings name: a bucket, or DATA/blobs. The SDK is loaded only where there is a bucket. */
export async function openBlobs({ settings: { s3 }, data }: { settings: BlobSettings; data: string }): Promise<Blobs> {
  if (s3 === undefined) return openFsBlobs({ directory: join(data, 'blobs') })
  const { connectS3Blobs } = await import('./s3.ts')
  const { accessKeyId, secretAccessKey, sessionToken, endpoint, ...store } = s3
  return connectS3Blobs({
    ...store,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } }),
  })
}
