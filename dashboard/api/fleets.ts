import { createHash, createHmac, randomBytes, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { anchorChallenge, anchorProof, opensslProof } from '../../ingest/anchor-proof.ts'
import { certificatesOf, lintAnchor, type LintedAnchor } from '../../ingest/chain.ts'
import { lintCrl } from '../../ingest/crl-import.ts'
import { isRefusal } from '../../ingest/outcome.ts'
import { iso } from '../queries/ask.ts'
import { readDeviceNames } from '../queries/devices.ts'
import { readFleet, type StoredAnchor, type StoredCrl } from '../queries/fleet.ts'
import { ACTOR, type Api, type ApiDeps } from './api.ts'
import { eventSchema } from './contract.ts'
import { anchorSchema, challengeSchema, crlSchema, fleetSchema, fleetSettingsSchema, gatewaySchema, type Fleet, type FleetSettings } from './fleet-contract.ts'
import { anchorBodySchema, challengeBodySchema, crlBodySchema, gatewayBodySchema, issuerStatusBodySchema, removeAnchorBodySchema, scopeQuerySchema } from './requests.ts'
import { sayEvent } from './decisions.ts'
import { Refused } from './problems.ts'

/**
 * Whom a fleet trusts, and its settings. Ingest reads the same events; what it would refuse as an anchor or as a revocation
 * list is refused here, with its words.
 */
const params = z.object({ fleet: scopeQuerySchema.shape.fleet.unwrap() })
const tags = ['fleets']
/** A revocation list of 4 MiB in PEM and JSON. */
const CRL_BODY_LIMIT = 7 * 1024 * 1024
/** Names in one event of those who are admitted when a fleet begins to admit devices one by one. */
const ADMITTED_AT_ONCE = 5_000

export function fleetRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock, events } = deps
  /** Lives as long as the token does, so a challenge outlives a restart. */
  const secret = createHmac('sha256', deps.settings.token).update('anchor proof').digest()

  api.get('/api/v1/fleets/:fleet', {
    schema: { summary: 'Anchors and settings of a fleet', tags, params, response: { 200: fleetSchema } },
  }, ({ params: { fleet } }) => fleetNow(fleet))

  api.post('/api/v1/fleets/:fleet/settings', {
    schema: { summary: 'Change some settings; the others stay', tags, params, body: fleetSettingsSchema, response: { 200: fleetSchema } },
  }, async ({ params: { fleet }, body }) => {
    const { settings, settingsBody } = await readFleet(clickhouse, fleet)
    if (body.first_sight === 'pending' && settings.first_sight !== 'pending') await admitKnown(fleet)
    await keepSettings(fleet, { ...settingsBody, ...body })
    return fleetNow(fleet)
  })

  api.post('/api/v1/fleets/:fleet/gateways', {
    schema: { summary: 'Let a gateway vouch for the devices behind it; the token is told this once, and one of the same name ends', tags, params, body: gatewayBodySchema, response: { 200: gatewaySchema } },
  }, async ({ params: { fleet }, body: { name } }) => {
    const { settings, settingsBody } = await readFleet(clickhouse, fleet)
    const token = randomBytes(32).toString('base64url')
    const sha256 = createHash('sha256').update(token).digest('hex')
    await events.append({ fleet, actor: ACTOR, kind: 'fleet.gateway-added', subject: `gateway:${name}`, body: { sha256 } })
    await keepSettings(fleet, { ...settingsBody, gateways: { ...settings.gateways, [name]: sha256 } })
    return { name, token }
  })

  api.post('/api/v1/fleets/:fleet/gateways/:name/remove', {
    schema: { summary: 'Believe a gateway no longer', tags, params: params.extend(gatewayBodySchema.shape), body: removeAnchorBodySchema, response: { 200: eventSchema } },
  }, async ({ params: { fleet, name }, body }) => {
    const { settings, settingsBody } = await readFleet(clickhouse, fleet)
    const { [name]: sha256, ...others } = settings.gateways ?? {}
    if (sha256 === undefined) throw new Refused('not-found', `fleet ${fleet} has no gateway ${name}`)
    const event = await sayEvent(deps, { fleet, kind: 'fleet.gateway-removed', subject: `gateway:${name}`, body })
    await keepSettings(fleet, { ...settingsBody, gateways: others })
    return event
  })

  api.post('/api/v1/fleets/:fleet/anchors', {
    schema: { summary: 'Trust a CA', tags, params, body: anchorBodySchema, response: { 200: anchorSchema } },
  }, async ({ params: { fleet }, body: { pem, key_protection, scope, proof } }) => {
    const { anchor: { sha256, der } } = lintedAnchor(pem)
    const unproven = proof && anchorProof({ fleet, sha256, der }, proof.challenge, Buffer.from(proof.signature, 'base64'), secret, clock.now())
    if (unproven) throw new Refused('anchor-unproven', unproven.detail)
    const anchor = { pem, key_protection, sha256, proven: proof !== undefined, ...(scope === undefined ? {} : { scope }) }
    const event = await events.append({ fleet, actor: ACTOR, kind: 'fleet.anchor-added', subject: `anchor:${sha256}`, body: anchor })
    await deps.onRegistryChange()
    return described({ scope: null, ...anchor, added_at: event.at, actor: event.actor })
  })

  api.post('/api/v1/fleets/:fleet/anchors/challenge', {
    schema: { summary: 'What to sign with the key of a CA, to prove that it is at hand', tags, params, body: challengeBodySchema, response: { 200: challengeSchema } },
  }, async ({ params: { fleet }, body: { pem } }) => {
    const { anchor: { sha256 }, keyType } = lintedAnchor(pem)
    return { sha256, challenge: anchorChallenge({ fleet, sha256 }, secret, clock.now()), command: opensslProof(keyType) }
  })

  api.post('/api/v1/fleets/:fleet/anchors/:sha256/remove', {
    schema: {
      summary: 'Trust a CA no longer', tags, params: params.extend({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }), body: removeAnchorBodySchema, response: { 200: eventSchema },
    },
  }, async ({ params: { fleet, sha256 }, body }) => {
    const { anchors } = await readFleet(clickhouse, fleet)
    if (!anchors.some((anchor) => anchor.sha256 === sha256)) throw new Refused('not-found', `fleet ${fleet} has no anchor ${sha256}`)
    const event = await sayEvent(deps, { fleet, kind: 'fleet.anchor-removed', subject: `anchor:${sha256}`, body: { ...body, sha256 } })
    await deps.onRegistryChange()
    return event
  })

  api.post('/api/v1/fleets/:fleet/crls', {
    bodyLimit: CRL_BODY_LIMIT,
    schema: { summary: 'Import the revocation list of a CA; a newer one takes its place', tags, params, body: crlBodySchema, response: { 200: crlSchema } },
  }, async ({ params: { fleet }, body }) => {
    const { anchors, crls } = await readFleet(clickhouse, fleet)
    const linted = lintCrl(body.pem, {
      anchors: anchors.map(({ pem, sha256, key_protection }) => ({ der: new X509Certificate(pem).raw, sha256, keyProtection: key_protection, fleet })),
      issuer: certificatesOf(body.issuer),
      previous: (subject) => crls.filter((crl) => crl.subject === subject).map(({ number, this_update }) => ({ number: BigInt(number), thisUpdate: Date.parse(this_update) }))[0],
      at: clock.now(),
    })
    if (isRefusal(linted)) throw new Refused('crl-refused', `${linted.slug}: ${linted.detail}`)
    const { crl, subject } = linted
    const said = { pem: body.pem, issuer: crl.issuerText, number: String(crl.number), this_update: iso(crl.thisUpdate), next_update: iso(crl.nextUpdate), revoked: crl.revoked.size }
    const event = await events.append({ fleet, actor: ACTOR, kind: 'fleet.crl-imported', subject, body: said })
    await deps.onRegistryChange()
    return withoutPem({ ...said, subject, imported_at: event.at, actor: event.actor })
  })

  // An issuer may be disabled before its first crash, so it need not be known.
  api.post('/api/v1/fleets/:fleet/issuers', {
    schema: { summary: 'Disable or allow all devices of an issuer; ingest acts on it within seconds', tags, params, body: issuerStatusBodySchema, response: { 200: eventSchema } },
  }, async ({ params: { fleet }, body: { issuer, ...body } }) => {
    const event = await sayEvent(deps, { fleet, kind: 'issuer.status', subject: `issuer:${issuer}`, body })
    await deps.onRegistryChange()
    return event
  })

  async function keepSettings(fleet: string, body: FleetSettings & Record<string, unknown>): Promise<void> {
    await events.append({ fleet, actor: ACTOR, kind: 'fleet.settings', subject: 'fleet', body })
    await deps.onRegistryChange()
  }

  /** Before the policy, so that nobody who is known is held back in between. */
  async function admitKnown(fleet: string): Promise<void> {
    const names = await readDeviceNames(clickhouse, fleet)
    for (let at = 0; at < names.length; at += ADMITTED_AT_ONCE) {
      await events.append({ fleet, actor: ACTOR, kind: 'fleet.devices-admitted', subject: `admitted:${clock.now()}-${at}`, body: { devices: names.slice(at, at + ADMITTED_AT_ONCE) } })
    }
  }

  async function fleetNow(fleet: string): Promise<Fleet> {
    const { settings, anchors, crls, issuers } = await readFleet(clickhouse, fleet)
    return { fleet, settings, anchors: anchors.map(described), crls: crls.map(withoutPem), issuers, as_of: iso(clock.now()) }
  }
}

function lintedAnchor(pem: string): LintedAnchor {
  const linted = lintAnchor(pem)
  if (isRefusal(linted)) throw new Refused('anchor-refused', linted.detail)
  return linted
}

const withoutPem = ({ pem: _, ...crl }: StoredCrl): Omit<StoredCrl, 'pem'> => crl

/** What was accepted once is shown, even where today's rules would refuse it. */
function described(anchor: StoredAnchor): Fleet['anchors'][number] {
  const linted = lintAnchor(anchor.pem)
  const { subject, keyType, notBefore, notAfter } = isRefusal(linted) ? { subject: linted.detail, keyType: 'unusable', notBefore: 0, notAfter: 0 } : linted
  return { ...anchor, subject, algorithm: keyType, not_before: iso(notBefore), not_after: iso(notAfter) }
}
