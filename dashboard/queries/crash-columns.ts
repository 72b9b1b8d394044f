import { z } from 'zod'
import { address, flag, number, optionalNumber, strings, time } from './ask.ts'

/** The columns that every list of crashes shows; their order is nobody's business, their names are the table's. */
export const CRASH_COLUMNS = `id, revision, event_time, received_at, device, device_key, issuer, key_protection, auth_level, standing, flags, source, bootcount, seq, uptime_s,
       hwmodel, swname, swversion, compartment, layer, process, reset_reason, status, kind, access, evidence, severity, address_class, fault_address, pc, bucket, title, provisional`

export const crashRow = z.object({
  id: z.string(), revision: number, event_time: time, received_at: time, device: z.string(), device_key: z.string(), issuer: z.string(), key_protection: z.string(),
  auth_level: z.string(), standing: z.string(), flags: strings, source: z.string(), bootcount: optionalNumber, seq: optionalNumber, uptime_s: optionalNumber,
  hwmodel: z.string(), swname: z.string(), swversion: z.string(), compartment: z.string(), layer: z.string(), process: z.string(), reset_reason: z.string(),
  status: z.string(), kind: z.string(), access: z.string(), evidence: number, severity: z.string(), address_class: z.string(), fault_address: address, pc: address,
  bucket: z.string(), title: z.string(), provisional: flag,
})
