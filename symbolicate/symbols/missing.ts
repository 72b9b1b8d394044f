import { z } from 'zod'
import { findDashboard, type ServerFlags } from '../../infra/service/server-file.ts'
import { ask } from './server.ts'

/** `overrun symbols missing`: which builds' symbols would help most, by the crashes that wait for them. */
export interface MissingOptions extends ServerFlags { json?: true; since?: string }

const missingSchema = z.object({
  items: z.array(z.object({
    debug_file: z.string(), debug_id: z.string(), code_id: z.string(), crashes: z.int(), devices: z.int(), buckets: z.int(), swversions: z.array(z.string()),
    first_seen: z.string(), last_seen: z.string(),
  })),
})

export async function missing({ json, since, ...flags }: MissingOptions): Promise<number> {
  const server = findDashboard(flags)
  if ('exit' in server) return complain(server.reason, server.exit)
  const found = await ask(server, `/api/v1/symbols/missing${since === undefined ? '' : `?from=${encodeURIComponent(since)}`}`, missingSchema)
  if ('exit' in found) return complain(found.reason, found.exit)
  const { items } = found.answer
  if (json) for (const item of items) console.log(JSON.stringify(item))
  else if (items.length === 0) console.log('no crash waits for symbols')
  else {
    const rows = items.map(({ crashes, devices, debug_file: file, debug_id: id, swversions }) => [String(crashes), String(devices), file || '-', id || '-', swversions.join(' ') || '-'])
    console.log(table([['crashes', 'devices', 'module', 'build', 'versions'], ...rows]))
  }
  return 0
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => row.map((cell, column) => (column < 2 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ').trimEnd()).join('\n')
}

function complain(reason: string, exit: number): number {
  console.error(reason)
  return exit
}
