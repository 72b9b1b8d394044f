import type { Command } from 'commander'
import { inventoryStoredSchema } from '../api/fleet-contract.ts'
import { inventoryBodySchema } from '../api/requests.ts'
import { CommandError, connectServer, ending, readInput, serverOptions, type ServerOptions } from './server-client.ts'
import { parseCsv } from './csv.ts'

/** `overrun fleet import`: the whole file is checked before any of it is sent. */
const REQUIRED = ['device', 'swversion', 'hwmodel'] as const
const BATCH = 1000
const MOST_SHOWN = 80

export function registerInventory(fleet: Command): void {
  serverOptions(fleet.command('import'))
    .description('Say which devices a fleet has, on which version: a CSV with columns device, swversion, hwmodel and, if known, last_seen (ISO 8601)')
    .argument('<inventory>', 'the CSV file; the first line names the columns')
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--json', 'print one line of JSON')
    .action(ending('fleet import', async (inventory: string, options: ServerOptions & { fleet: string; json?: boolean }) => {
      const devices = devicesOf(inventory)
      const server = connectServer(options)
      for (let at = 0; at < devices.length; at += BATCH) {
        await server.post(`/fleets/${encodeURIComponent(options.fleet)}/inventory`, { devices: devices.slice(at, at + BATCH) }, inventoryStoredSchema)
      }
      if (options.json) console.log(JSON.stringify({ fleet: options.fleet, devices: devices.length }))
      else console.log(`Fleet ${options.fleet}: ${devices.length} devices.`)
    }))
}

function devicesOf(file: string): Record<string, string>[] {
  const table = parseCsv(readInput(file).toString('utf8'))
  if ('fault' in table) throw new CommandError(21, `${file}: ${table.fault}`)
  const missing = REQUIRED.filter((name) => !table.columns.includes(name))
  if (missing.length > 0) throw new CommandError(21, `${file}: line 1: no column ${missing.join(', ')}`)
  const known = [...REQUIRED, 'last_seen'].filter((name) => table.columns.includes(name))
  return table.rows.map(({ line, fields }) => {
    const device = Object.fromEntries(known.map((name) => [name, fields[table.columns.indexOf(name)]!.trim()]).filter(([name, value]) => name !== 'last_seen' || value !== ''))
    if (device.last_seen !== undefined) device.last_seen = isoOf(device.last_seen) ?? fault(file, line, `last_seen ${JSON.stringify(device.last_seen.slice(0, MOST_SHOWN))} is no time (ISO 8601)`)
    const issue = inventoryBodySchema.safeParse({ devices: [device] }).error?.issues[0]
    if (issue) fault(file, line, `${String(issue.path.at(-1))}: ${issue.message}`)
    return device
  })
}

function fault(file: string, line: number, what: string): never {
  throw new CommandError(21, `${file}: line ${line}: ${what}`)
}

const isoOf = (text: string): string | undefined => {
  const at = Date.parse(text)
  return Number.isNaN(at) ? undefined : new Date(at).toISOString()
}
