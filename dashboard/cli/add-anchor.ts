import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { Option } from 'commander'
import { KEY_PROTECTIONS } from '../../ingest/contract.ts'
import { messageOf } from '../../infra/service/errors.ts'
import { DEFAULT_DATA, findDashboard } from '../../infra/service/server-file.ts'

interface AddAnchorOptions { keyProtection: string; fleet: string; url?: string; token?: string; data: string; json?: boolean }

/** Exit codes: 0 ok, 10 no token, 12 refused token, 20 no server known, 21 the certificate can't be an anchor, 30 the API says no, 32 nobody answers. */
export function registerAddAnchor(fleet: Command): void {
  fleet
    .command('add-anchor')
    .description('Trust a CA: devices whose certificates lead to it belong to the fleet')
    .argument('<certificate>', 'the CA certificate, PEM')
    .addOption(new Option('--key-protection <where>', "where this CA's devices keep their keys").choices([...KEY_PROTECTIONS]).default('unknown'))
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--url <address>', 'the dashboard (OVERRUN_URL)')
    .option('--token <token>', 'its token (OVERRUN_TOKEN)')
    .option('--data <directory>', 'folder of a server on this machine, instead of --url and --token', DEFAULT_DATA)
    .option('--json', 'print one line of JSON')
    .action(async (certificate: string, options: AddAnchorOptions) => {
      const server = findDashboard(options)
      if ('exit' in server) return fail(server.exit, server.reason)
      const { url, token } = server
      let pem: string
      try {
        pem = readFileSync(certificate, 'utf8')
      } catch (error) {
        return fail(21, `${certificate}: ${messageOf(error)}`)
      }
      let response: Response
      try {
        response = await fetch(new URL(`/api/v1/fleets/${encodeURIComponent(options.fleet)}/anchors`, url), {
          method: 'POST',
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ pem, key_protection: options.keyProtection }),
        })
      } catch (error) {
        return fail(32, `${url} does not answer: ${messageOf(error)}`)
      }
      const answer = (await response.json().catch(() => ({}))) as { sha256?: string; title?: string; detail?: string; hint?: string }
      if (!response.ok) return fail(response.status === 401 ? 12 : response.status === 422 ? 21 : 30, [answer.title ?? `HTTP ${response.status}`, answer.detail, answer.hint].filter(Boolean).join('. '))
      if (options.json) console.log(JSON.stringify({ fleet: options.fleet, sha256: answer.sha256, key_protection: options.keyProtection }))
      else console.log(`Fleet ${options.fleet} now trusts ${certificate} (SHA-256 ${answer.sha256}). Every ingest process knows within 5 s.`)
    })
}

function fail(code: number, message: string): void {
  console.error(`overrun fleet add-anchor: ${message}`)
  process.exitCode = code
}
