import { createPrivateKey, sign, type KeyObject } from 'node:crypto'
import { Option, type Command } from 'commander'
import { messageOf } from '../../infra/service/errors.ts'
import { KEY_PROTECTIONS } from '../../ingest/contract.ts'
import { anchorSchema, challengeSchema } from '../api/fleet-contract.ts'
import { CommandError, connectServer, ending, readInput, serverOptions, type ServerOptions } from './server-client.ts'

interface AddAnchorOptions extends ServerOptions { keyProtection: string; fleet: string; scope?: string; caKey?: string; challenge?: string; signature?: string; json?: boolean }

/**
 * Trusting a CA, and showing that its key is at hand: either the key is here (--ca-key), or it stays in its safe, and the
 * text of `fleet anchor-challenge` is signed there (--challenge, --signature). Without a proof the anchor is marked so.
 * Exit codes are those of server-client.ts; 21: the certificate can't be an anchor, or the proof is none.
 */
export function registerAddAnchor(fleet: Command): void {
  serverOptions(fleet.command('add-anchor'))
    .description('Trust a CA: devices whose certificates lead to it belong to the fleet')
    .argument('<certificate>', 'the CA certificate, PEM')
    .addOption(new Option('--key-protection <where>', "where this CA's devices keep their keys").choices([...KEY_PROTECTIONS]).default('unknown'))
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--scope <name>', 'goes before the names of its devices, where several manufacturers number alike; the same for each anchor of one manufacturer')
    .option('--ca-key <file>', "the CA's private key (PEM), to prove here that it is at hand; it is not sent")
    .option('--challenge <file>', 'or the text of "overrun fleet anchor-challenge"')
    .option('--signature <base64>', "and its signature by the CA's key")
    .option('--json', 'print one line of JSON')
    .action(ending('fleet add-anchor', async (certificate: string, options: AddAnchorOptions) => {
      const server = connectServer(options)
      const path = `/fleets/${encodeURIComponent(options.fleet)}/anchors`
      const pem = readInput(certificate).toString('utf8')
      const proof = await proofOf(options, async () => (await server.post(`${path}/challenge`, { pem }, challengeSchema)).challenge)
      const { sha256, proven } = await server.post(path, { pem, key_protection: options.keyProtection, ...(options.scope === undefined ? {} : { scope: options.scope }), ...(proof && { proof }) }, anchorSchema.pick({ sha256: true, proven: true }))
      if (options.json) console.log(JSON.stringify({ fleet: options.fleet, sha256, key_protection: options.keyProtection, proven }))
      else console.log(`Fleet ${options.fleet} now trusts ${certificate} (SHA-256 ${sha256}${proven ? ', key proven' : ', key not proven'}). Every ingest process knows within 5 s.`)
    }))

  serverOptions(fleet.command('anchor-challenge'))
    .description("Print what a CA's key has to sign, to prove that it is at hand, and on standard error the command that does it")
    .argument('<certificate>', 'the CA certificate, PEM')
    .option('--fleet <name>', 'the fleet', 'default')
    .action(ending('fleet anchor-challenge', async (certificate: string, options: ServerOptions & { fleet: string }) => {
      const { challenge, command } = await connectServer(options).post(`/fleets/${encodeURIComponent(options.fleet)}/anchors/challenge`, { pem: readInput(certificate).toString('utf8') }, challengeSchema)
      process.stdout.write(challenge)
      console.error(`Keep the text above as challenge.txt, byte for byte, and within a day:\n  ${command}\n  overrun fleet add-anchor ${certificate} --challenge challenge.txt --signature BASE64`)
    }))
}

async function proofOf({ caKey, challenge, signature }: AddAnchorOptions, ask: () => Promise<string>): Promise<{ challenge: string; signature: string } | undefined> {
  if (caKey !== undefined) {
    const [key, text] = [privateKeyOf(caKey), await ask()]
    return { challenge: text, signature: sign(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', Buffer.from(text), key).toString('base64') }
  }
  if ((challenge === undefined) !== (signature === undefined)) throw new CommandError(2, '--challenge and --signature belong together')
  return challenge === undefined || signature === undefined ? undefined : { challenge: readInput(challenge).toString('utf8'), signature }
}

function privateKeyOf(file: string): KeyObject {
  try {
    return createPrivateKey(readInput(file))
  } catch (error) {
    throw error instanceof CommandError ? error : new CommandError(21, `${file}: ${messageOf(error)}`)
  }
}
