import { fileURLToPath } from 'node:url'
import { z } from 'zod'

/** Every setting of the dashboard, with its default. Sizes in bytes, times in milliseconds. */
const ms = z.int().positive()

export const dashboardSettingsSchema = z.object({
  host: z.string().default('127.0.0.1').describe('Address that people and CI reach'),
  port: z.int().min(0).max(65_535).default(4681).describe('Port of the same; 0 is any free one'),
  token: z.string().min(16).describe('Whoever has it may see and decide everything; made at the first start and kept in the data folder'),
  fleet: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/).default('default').describe('The fleet that is meant when a request names none'),
  publicUrl: z.url().optional().describe('Address in the browser when a proxy stands in front; https makes the cookie Secure'),
  webRoot: z.string().default(fileURLToPath(new URL('./web/dist/', import.meta.url))).describe('The built web pages'),
  symbolBytes: z.int().positive().default(256 * 2 ** 20).describe('Largest symbol file'),
  sessionMs: ms.default(12 * 3_600_000).describe('How long a sign-in lasts'),
  failedLogins: z.int().positive().default(10).describe('Failed sign-ins that an address has in one minute'),
  pollMs: ms.default(2_000).describe('How often changes are looked for while a page is open'),
  streams: z.int().positive().default(64).describe('Most pages that are told of changes at once; others ask every 30 s'),
})

export type DashboardSettings = z.infer<typeof dashboardSettingsSchema>
