import { hash } from 'node:crypto'
import { encode, rfc8949EncodeOptions } from 'cborg'
import { open, type Database } from 'lmdb'
import { BrokenWorld, messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { AcceptedCrash, Claims } from './contract.ts'

/**
 * Which crashes need no second dump: those whose fingerprint came with a dump before, from this fleet and this firmware.
 *
 * Promise: a fingerprint is never known wrongly. It is learnt only from a report that is durable in the log, signed,
 * counted and with its dump; it is found only under the whole name (the fleet, the fingerprint and every claim that tells
 * one build from another); and it is forgotten after `days`, so that a build sends fresh evidence for as long as it
 * crashes, and one liar's dump does not stand for all others for good. To forget too much is harmless: the answer is
 * `send` and costs one dump. So nothing waits for this database to sync, and each ingest process has its own.
 *
 * Bounded by its form: SLOTS places, each crash has one, the newer takes it from the older.
 *
 *   first 2 bytes of the name -> name (32 bytes), crash id (16), received at (f64, ms), device id (UTF-8)
 *   name = SHA-256(dCBOR ["known/1", fleet, fingerprint, content type, hwmodel, swname, swversion, build id])
 */
export interface KnownCrashes {
  find(crash: Fingerprinted, now: number): Known | null
  /** Looks at every crash that has become durable; most teach nothing. */
  learn(crash: AcceptedCrash): void
  close(): Promise<void>
}

export interface Fingerprinted { fleet: string; contentType: AcceptedCrash['contentType']; claims: Claims }
export interface Known { id: string; deviceId: string }

/** The number of values that the key has. */
const KEY_BYTES = 2
const HEAD_BYTES = 32 + 16 + 8
const DAY = 24 * 60 * 60 * 1000

export function createKnownCrashes({ directory, days, logger }: { directory: string; days: number; logger: Logger }): KnownCrashes {
  const db = openDatabase(directory)

  function find(crash: Fingerprinted, now: number): Known | null {
    const name = nameOf(crash)
    const slot = db.get(name.subarray(0, KEY_BYTES))
    if (slot === undefined || slot.length < HEAD_BYTES || !slot.subarray(0, 32).equals(name)) return null
    const age = now - slot.readDoubleBE(48)
    if (age < 0 || age >= days * DAY) return null
    return { id: slot.toString('hex', 32, 48), deviceId: slot.toString('utf8', HEAD_BYTES) }
  }

  return {
    find,
    learn(crash) {
      if (!teaches(crash) || find(crash, crash.receivedAt) !== null) return
      const name = nameOf(crash)
      const at = Buffer.alloc(8)
      at.writeDoubleBE(crash.receivedAt)
      db.put(name.subarray(0, KEY_BYTES), Buffer.concat([name, Buffer.from(crash.id, 'hex'), at, Buffer.from(crash.deviceId)])).catch((error: unknown) => {
        logger.warn({ slug: 'known-write-failed', reason: messageOf(error) }, 'a fingerprint was not learnt; its dump will be asked for again')
      })
    },
    close: () => db.close(),
  }
}

/** A digest of a storm is no dump of one crash, and a crash that itself only names another one has no dump here. */
const teaches = ({ authLevel, standing, claimedOf, size, contentType, claims }: AcceptedCrash): boolean =>
  authLevel === 'payload-signed' && standing === 'counted' && claimedOf === undefined && size > 0
  && contentType !== 'application/vnd.overrun.crash-storm+cbor' && claims.fingerprint !== undefined

function nameOf({ fleet, contentType, claims: { fingerprint = '', hwmodel = '', swname = '', swversion = '', buildId = '' } }: Fingerprinted): Buffer {
  return hash('sha256', encode(['known/1', fleet, fingerprint, contentType, hwmodel, swname, swversion, buildId], rfc8949EncodeOptions), 'buffer')
}

function openDatabase(directory: string): Database<Buffer, Buffer> {
  try {
    return open<Buffer, Buffer>({ path: directory, encoding: 'binary', keyEncoding: 'binary', noSubdir: false })
  } catch (error) {
    throw new BrokenWorld('known-open-failed', `known crashes: cannot open ${directory}: ${messageOf(error)}`, { retryable: false, cause: error })
  }
}
