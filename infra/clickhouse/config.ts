import { z } from 'zod'

/** Every setting of ClickHouse, with its default. With `server` it is a server, else the engine in a child process. */
export const serverSettingsSchema = z.object({
  url: z.url({ protocol: /^https?$/ }).refine((url) => URL.canParse(url) && new URL(url).username === '' && new URL(url).password === '', 'name and password have settings of their own')
    .describe('Address of its HTTP interface'),
  username: z.string().min(1).default('default').describe('Our user there'),
  password: z.string().default('').meta({ secret: true, description: 'Password of our user' }),
  database: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,62}$/).default('default').describe('Database of our tables; `overrun migrate` makes it'),
})

export const clickhouseSettingsSchema = z.object({
  memoryBytes: z.int().positive().default(768 * 2 ** 20).describe('Memory of the embedded engine; one statement may have a third of it'),
  retentionDays: z.int().positive().optional().describe('Crashes, and what is counted of them, go when they are older; left out, they stay. `overrun migrate` sets it on a server'),
  server: serverSettingsSchema.optional(),
})

export type ClickHouseSettings = z.infer<typeof clickhouseSettingsSchema>
