"""The demo's settings: three partners and the patients, a route to each, one source topic; what patients are served, and one of their own programs."""

from typing import Final

ROCHE: Final = "roche-patients"
NJSAMS: Final = "njsams-clients"
ROQUA: Final = "roqua-honos"
MEDMIJ: Final = "medmij-appointments"
PHR: Final = "patient-app"
"""The partner that is our own server, as a patient's program sees it."""
MARK: Final = "settings.yaml"
"""The file that they go into, by which a folder is known as the demo's."""
SETTINGS: Final = """# Made by `emr-pipeline demo`.
site:
  name: demo
  zone: Europe/Amsterdam
  overlay: demo
bus: {{kind: embedded, path: bus}}
ledger: {{url: "sqlite:///ledger.sqlite"}}
keys:
  patient_hash: {{file: patient-hash.key}}
partners:
  roche:
    kind: roche
    base_url: {roche}
    org_id: 2.16.724.4.2
    client_id: "1234567890"
    client_secret: {{file: sandbox/client-secret}}
    tls: {{ca: sandbox/ca.pem, certificate: sandbox/client.pem, key: sandbox/client.key}}
  njsams:
    kind: njsams
    base_url: {njsams}
    tls: {{ca: sandbox-njsams/ca.pem}}
    oauth:
      client_id: emr-pipeline
      client_secret: {{file: sandbox-njsams/client-secret}}
      scope: system/*.write
    facilities: {{NJDEMO: "123456"}}
    payors: {{MEDICAID: Organization/12}}
  roqua:
    kind: roqua
    base_url: {roqua}
    tls: {{ca: sandbox-roqua/ca.pem}}
    token: {{consumer_key: {token}, consumer_secret: {{file: sandbox-roqua/client-secret}}}}
    professional_system: "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.7"
  medmij:
    kind: medmij
    organization: {{name: Ziekenhuis Zuid, ura: "00001234"}}
  patient-app:
    kind: medmij-xis
    base_url: {serve}
    tls: {{ca: sandbox-medmij/ca.pem}}
    token: {{file: patient-token}}
routes:
  roche-patients: {{partner: roche, source: his.adt, start: earliest}}
  njsams-clients:
    partner: njsams
    source: his.adt
    start: earliest
    facilities: [NJDEMO]
    part2: [{{facility: NJDEMO, programs: [SUD-IOP]}}]
  roqua-honos:
    partner: roqua
    source: his.adt
    start: earliest
    facilities: [GGZDEMO]
  medmij-appointments:
    partner: medmij
    source: his.adt
    start: earliest
    facilities: [ZUIDDEMO]
appointments: {{url: "sqlite:///appointments.sqlite"}}
serve:
  address: "127.0.0.1:{port}"
  base_url: {serve}
  tls: {{certificate: sandbox-medmij/server.pem, key: sandbox-medmij/server.key}}
  tokens:
    issuer: {issuer}
    audience: {serve}
    jwks_url: {issuer}/jwks
    tls: {{ca: sandbox-medmij/ca.pem}}
    claims: {{bsn: bsn, local: {{claim: local, system: "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"}}}}
listen: {{address: "127.0.0.1:0", topic: his.adt}}
"""
