import { z } from 'zod'

/** Every setting of the dashboard, with its default. Sizes in bytes, times in milliseconds. */
const ms = z.int().positive()

export const webhookSchema = z.object({
  url: z.url({ protocol: /^https?$/ }).meta({ secret: true, description: 'Who is told of alerts (Standard Webhooks); some addresses are secrets themselves' }),
  secret: z.string().regex(/^whsec_[A-Za-z0-9+/=]+$/, 'whsec_ and base64 is expected').optional()
    .meta({ secret: true, description: 'whsec_ and base64; left out, it is made at the first start and kept in the data folder' }),
  inside: z.boolean().default(false).describe('Whether the address may be a private one'),
})

export const dashboardSettingsSchema = z.object({
  host: z.string().default('127.0.0.1').describe('Address that people and CI reach'),
  port: z.int().min(0).max(65_535).default(4681).describe('Port of the same; 0 is any free one'),
  token: z.string().min(16).meta({ secret: true, description: 'Whoever has it may see and decide everything; left out, it is made at the first start and kept in the data folder' }),
  fleet: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/).default('default').describe('The fleet that is meant when a request names none'),
  publicUrl: z.url().optional().describe('Address in the browser when a proxy stands in front; https makes the cookie Secure'),
  webRoot: z.string().optional().describe('The built web pages; those of this installation when left out'),
  detectors: z.boolean().default(true).describe('Whether this process looks for attacks and tells people; one dashboard should'),
  webhook: webhookSchema.optional(),
  symbolBytes: z.int().positive().default(256 * 2 ** 20).describe('Largest symbol file'),
  sessionMs: ms.default(12 * 3_600_000).describe('How long a sign-in lasts'),
  failedLogins: z.int().positive().default(10).describe('Failed sign-ins that an address has in one minute'),
  pollMs: ms.default(2_000).describe('How often changes are looked for while a page is open'),
  streams: z.int().positive().default(64).describe('Most pages that are told of changes at once; others ask every 30 s'),
})

export type DashboardSettings = z.infer<typeof dashboardSettingsSchema>
