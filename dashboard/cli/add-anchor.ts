import { Option, type Command } from 'commander'
import { KEY_PROTECTIONS } from '../../ingest/contract.ts'
import { anchorSchema } from '../api/contract.ts'
import { connectServer, ending, readInput, serverOptions, type ServerOptions } from './server-client.ts'

interface AddAnchorOptions extends ServerOptions { keyProtection: string; fleet: string; json?: boolean }

/** Exit codes are those of server-client.ts; 21: the certificate can't be an anchor. */
export function registerAddAnchor(fleet: Command): void {
  serverOptions(fleet.command('add-anchor'))
    .description('Trust a CA: devices whose certificates lead to it belong to the fleet')
    .argument('<certificate>', 'the CA certificate, PEM')
    .addOption(new Option('--key-protection <where>', "where this CA's devices keep their keys").choices([...KEY_PROTECTIONS]).default('unknown'))
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--json', 'print one line of JSON')
    .action(ending('fleet add-anchor', async (certificate: string, options: AddAnchorOptions) => {
      const server = connectServer(options)
      const body = { pem: readInput(certificate).toString('utf8'), key_protection: options.keyProtection }
      const { sha256 } = await server.post(`/fleets/${encodeURIComponent(options.fleet)}/anchors`, body, anchorSchema.pick({ sha256: true }))
      if (options.json) console.log(JSON.stringify({ fleet: options.fleet, sha256, key_protection: options.keyProtection }))
      else console.log(`Fleet ${options.fleet} now trusts ${certificate} (SHA-256 ${sha256}). Every ingest process knows within 5 s.`)
    }))
}
