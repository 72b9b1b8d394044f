import { z } from 'zod'

/** Every setting of the blob store, with its default. With `s3` it is a bucket, else a folder. */
const secret = { secret: true }

export const s3SettingsSchema = z.object({
  bucket: z.string().min(1).describe('Bucket of dumps and symbols; it must exist'),
  region: z.string().min(1).default('us-east-1').describe('Region of the bucket; stores that have none want any word'),
  endpoint: z.url({ protocol: /^https?$/ }).optional().describe('Address of a store that is not AWS'),
  forcePathStyle: z.boolean().default(false).describe('The bucket in the path, not in the host name: most stores that are not AWS need it'),
  accessKeyId: z.string().min(1).optional().describe('Left out: where the AWS SDK finds it, such as the role of the machine'),
  secretAccessKey: z.string().min(1).optional().meta({ ...secret, description: 'Belongs to accessKeyId' }),
  sessionToken: z.string().min(1).optional().meta({ ...secret, description: 'Belongs to keys that are lent for a while' }),
}).refine(({ accessKeyId, secretAccessKey }) => (accessKeyId === undefined) === (secretAccessKey === undefined), {
  error: 'accessKeyId and secretAccessKey belong together', path: ['secretAccessKey'],
})

export const blobSettingsSchema = z.object({ s3: s3SettingsSchema.optional() })

export type BlobSettings = z.infer<typeof blobSettingsSchema>
