import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { messageOf } from '../../infra/service/errors.ts'
import { isSignedBy, parseCertificate, type Certificate } from '../certificate.ts'
import { CRL_IF_THERE, CRL_REQUIRED, DEFAULT_CHAIN_POLICY, MAX_CERTIFICATES, certificatesOf, createChainVerifier, lintAnchor, type ChainPolicy, type ChainResult } from '../chain.ts'
import { crlSetOf, crlsOf, parseCrl, type Crl } from '../crl.ts'
import { isRefusal, type Refusal } from '../outcome.ts'

/**
 * `overrun cert check`: the path validation of the door, for an engineer with a device's chain in hand.
 *
 * It judges the path. What the leaf may be used for is the fleet's policy and a line of its own, held to the default
 * policy. An expired leaf is refused here, where the door may let it pass for a while. As soon as one revocation list is
 * given, every issuer on the path needs a current one, and every list has to be usable: the one that is not, a delta for
 * example, may be the one that revokes.
 */
export function registerCertCheck(cert: Command): void {
  let list: 'anchor' | 'crl' = 'anchor'
  cert.command('check')
    .description("Say whether a device's certificate chain would be accepted, and why not")
    .argument('[chain]', 'the chain in PEM, leaf first, without the anchor')
    .option('--anchor <file...>', 'certificates of trusted CAs, PEM')
    .option('--crl <file...>', 'revocation lists of the issuers on the path, PEM; with one given, each issuer needs one')
    .option('--at <time>', 'judge as of this moment (ISO 8601)', moment)
    .option('--any-order', 'look for the path among the certificates given; the door wants exactly the path, in order')
    .option('--allow-rsa', 'let RSA pass, as the door never does')
    .on('option:anchor', () => { list = 'anchor' })
    .on('option:crl', () => { list = 'crl' })
    .option('--batch', 'read {"id","anchors","chain","crls","at"} a line from stdin, PEM in text or lists, and answer {"id","accepted","slug"} a line')
    .option('--json', 'print one line of JSON')
    .addHelpText('after', '\nExit codes: 0 accepted, 2 usage, 21 refused, 23 file not found. With --batch 0, or 21 when a line could not be read.')
    .action(async (last: string | undefined, options: Options) => {
      if (options.batch) {
        process.exitCode = await batch(options)
        return
      }
      // A list of files takes every word that follows, the chain too when it comes right after.
      const files = options[list] ?? []
      const chain = last ?? (files.length > 1 ? files.pop() : undefined)
      if (chain === undefined || !options.anchor) process.exitCode = fail(2, 'a chain and --anchor are needed, or --batch')
      else process.exitCode = single(chain, options.anchor, options)
    })
}

type Options = { anchor?: string[]; crl?: string[]; at?: number; anyOrder?: boolean; allowRsa?: boolean; batch?: boolean; json?: boolean }
type Judging = Pick<Options, 'anyOrder' | 'allowRsa'>

export type PathGiven = { chain: Uint8Array[]; anchors: Uint8Array[]; crls: Uint8Array[]; /** ms since the epoch. */ at: number }
/** `unusable`: anchors and lists that do not count, with the reason. */
export type PathJudged = { result: ChainResult | Refusal; unusable: Refusal[] }

export function judgePath({ chain, anchors, crls, at }: PathGiven, { anyOrder = false, allowRsa = false }: Judging = {}): PathJudged {
  const lists = crls.map((der) => parseCrl(der, { allowRsa }))
  const usable = lists.filter((list): list is Crl => !isRefusal(list))
  const refusedAnchors = anchors.map((der) => lintAnchor(der, { allowRsa })).filter(isRefusal)
  const policy: ChainPolicy = { ...DEFAULT_CHAIN_POLICY, expiredLeafMs: 0, crl: crls.length > 0 ? CRL_REQUIRED : CRL_IF_THERE }
  const judged = createChainVerifier({ cacheSize: 1, allowRsa }).verify(
    anyOrder ? pathAmong(chain, anchors, allowRsa) : chain, anchors.map((der) => ({ der, sha256: '', keyProtection: 'unknown', fleet: FLEET })),
    () => policy, at, crlSetOf(usable.map((crl) => ({ fleet: FLEET, crl }))),
  )
  const result = isRefusal(judged) ? (judged.slug === 'anchor-unknown' && refusedAnchors[0]) || judged : judged.revoked ?? lists.find(isRefusal) ?? judged
  return { result, unusable: [...refusedAnchors, ...lists.filter(isRefusal)] }
}
const FLEET = 'checked'

/** From the leaf, which comes first, upwards by name and signature, until an anchor has signed; what is given where that leads nowhere, so that the judgement says why. */
function pathAmong(given: Uint8Array[], anchors: Uint8Array[], allowRsa: boolean): Uint8Array[] {
  const [leaf, ...others] = given.map((der) => parseCertificate(der, { allowRsa }))
  const tops = anchors.map((der) => parseCertificate(der, { allowRsa }))
  const path = leaf === undefined || isRefusal(leaf) ? [] : [leaf]
  for (let last = path[0]; last && path.length <= MAX_CERTIFICATES; last = path.at(-1)) {
    if (tops.some((anchor) => issued(last, anchor))) return path.map(({ der }) => der)
    const next = others.find((candidate): candidate is Certificate => issued(last, candidate) && !path.includes(candidate as Certificate))
    if (next === undefined) break
    path.push(next)
  }
  return given
}

const issued = (certificate: Certificate, by: Certificate | Refusal): boolean => !isRefusal(by) && certificate.issuer === by.subject && isSignedBy(certificate, by)

function single(chainFile: string, anchorFiles: string[], options: Options): number {
  let given: PathGiven
  try {
    const [chain, anchors, crls] = [[chainFile], anchorFiles, options.crl ?? []].map((files) => files.map((file) => readFileSync(file, 'latin1')).join('\n')) as [string, string, string]
    given = { chain: certificatesOf(chain), anchors: certificatesOf(anchors), crls: crlsOf(crls), at: options.at ?? Date.now() }
  } catch (error) {
    return fail(23, messageOf(error))
  }
  if (given.chain.length === 0) return fail(21, `${chainFile}: no certificate in PEM`)
  if (given.anchors.length === 0) return fail(21, `${anchorFiles.join(', ')}: no certificate in PEM`)
  if (options.crl && given.crls.length === 0) return fail(21, `${options.crl.join(', ')}: no revocation list in PEM`)

  const { result, unusable } = judgePath(given, options)
  for (const { slug, detail } of unusable) console.error(`cert check: does not count: ${detail} (${slug})`)
  if (isRefusal(result)) {
    if (options.json) console.log(JSON.stringify({ accepted: false, slug: result.slug, detail: result.detail }))
    else console.log(`refused: ${result.slug}\n${result.detail}`)
    return 21
  }
  const { deviceId, deviceKeyId, issuer, leafKeyType, tcb, unfit } = result
  if (options.json) {
    console.log(JSON.stringify({ accepted: true, device_id: deviceId, device_key_id: deviceKeyId, issuer, key: leafKeyType, ...(tcb && { tcb }), use: unfit ? unfit.slug : 'ok', ...(unfit && { use_detail: unfit.detail }) }))
    return 0
  }
  console.log(`accepted: device ${deviceId}, a ${leafKeyType} key, issued by ${issuer}`)
  console.log(unfit ? `use: by default this leaf signs no crash reports: ${unfit.detail} (${unfit.slug})` : 'use: this leaf may sign crash reports')
  if (tcb) console.log(`firmware: security version ${tcb.svn ?? 'not named'}${tcb.fwids.map(({ alg, digest }) => `, ${alg} ${digest}`).join('')}`)
  return 0
}

const pem = z.union([z.string(), z.array(z.string())]).transform((text) => [text].flat().join('\n'))
const lineSchema = z.object({
  id: z.union([z.string(), z.number()]),
  anchors: pem, chain: pem, crls: pem.optional(),
  /** ISO 8601, or seconds since the epoch. */
  at: z.union([z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)), z.number().transform((seconds) => seconds * 1000)]).optional(),
})

async function batch(options: Options): Promise<number> {
  let code = 0
  for await (const text of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (text.trim() === '') continue
    const line = lineSchema.safeParse(jsonOf(text))
    if (!line.success) {
      const issue = line.error.issues[0]
      code = fail(21, `a line is not {id, anchors, chain, crls, at}: ${issue?.path.join('.') || 'JSON'}: ${issue?.message}`)
      continue
    }
    const { id, anchors, chain, crls = '', at = options.at ?? Date.now() } = line.data
    const { result } = judgePath({ chain: certificatesOf(chain), anchors: certificatesOf(anchors), crls: crlsOf(crls), at }, options)
    console.log(JSON.stringify({ id, accepted: !isRefusal(result), slug: isRefusal(result) ? result.slug : 'accepted' }))
  }
  return code
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function moment(text: string): number {
  const at = Date.parse(text)
  if (Number.isNaN(at)) throw new InvalidArgumentError('a moment as 2026-01-31T12:00:00Z is expected')
  return at
}

function fail(code: number, why: string): number {
  console.error(`cert check: ${why}`)
  return code
}
