//! Which columns look personal, by their names.
//!
//! In:    a column's name. Out: what it looks like, and the mask proposed. Holds: pure; a proposal and
//!        no proof: a column called `notes` may hold anything.
//!
//! What a join or a count of people still needs becomes `hmac`; what nobody needs, `nullify`.

use crate::config::model::Mask;

/// What it looks like, the mask, and the names: words in a row, or all of them in one word.
/// English, French, Spanish, German.
pub const PERSONAL: &[(&str, Mask, &[&str])] = &[
    (
        "name",
        Mask::Hmac,
        &[
            "first name",
            "firstname",
            "last name",
            "lastname",
            "surname",
            "full name",
            "given name",
            "family name",
            "middle name",
            "maiden name",
            "prenom",
            "nom de famille",
            "nom famille",
            "nom complet",
            "apellido",
            "apellidos",
            "nombre completo",
            "nombre pila",
            "vorname",
            "nachname",
            "familienname",
            "geburtsname",
        ],
    ),
    (
        "e-mail",
        Mask::Hmac,
        &[
            "email",
            "e mail",
            "mail",
            "courriel",
            "correo",
            "correo electronico",
            "mailadresse",
            "emailadresse",
        ],
    ),
    (
        "telephone",
        Mask::Hmac,
        &[
            "phone",
            "telephone",
            "tel",
            "mobile",
            "cell",
            "cellphone",
            "fax",
            "portable",
            "telefono",
            "movil",
            "celular",
            "telefon",
            "telefonnummer",
            "handy",
            "mobilnummer",
            "whatsapp",
            "msisdn",
        ],
    ),
    (
        "identity document",
        Mask::Hmac,
        &[
            "national id",
            "nationalid",
            "ssn",
            "social security",
            "nin",
            "ghana card",
            "passport",
            "passeport",
            "pasaporte",
            "reisepass",
            "passnummer",
            "identity card",
            "id card",
            "carte identite",
            "cni",
            "dni",
            "nie",
            "cedula",
            "curp",
            "rfc",
            "ausweis",
            "personalausweis",
            "ausweisnummer",
            "driving licence",
            "driver license",
            "permis conduire",
            "fuehrerschein",
            "sozialversicherung",
            "svnr",
            "nir",
        ],
    ),
    (
        "tax number",
        Mask::Hmac,
        &["tax id", "tax number", "tin", "numero fiscal", "nif", "steuernummer", "steuer id", "steuerid"],
    ),
    (
        "bank account",
        Mask::Hmac,
        &[
            "iban",
            "bank account",
            "account number",
            "sort code",
            "compte bancaire",
            "rib",
            "cuenta bancaria",
            "kontonummer",
            "bankverbindung",
            "credit card",
            "card number",
            "carte bancaire",
            "kreditkarte",
        ],
    ),
    (
        "birth",
        Mask::Nullify,
        &[
            "birth",
            "birthdate",
            "birthday",
            "dob",
            "date of birth",
            "birthplace",
            "naissance",
            "nacimiento",
            "geburt",
            "geburtsdatum",
            "geburtstag",
            "geburtsort",
        ],
    ),
    (
        "address",
        Mask::Nullify,
        &[
            "address",
            "addr",
            "street",
            "postcode",
            "zip",
            "zipcode",
            "postal code",
            "adresse",
            "rue",
            "code postal",
            "direccion",
            "domicilio",
            "calle",
            "codigo postal",
            "anschrift",
            "strasse",
            "plz",
            "postleitzahl",
            "wohnort",
            "digital address",
            "gps address",
        ],
    ),
    ("network address", Mask::Hmac, &["ip", "ip address", "ipaddress", "mac address", "user agent"]),
    (
        "pay",
        Mask::Nullify,
        &[
            "salary",
            "wage",
            "wages",
            "gross pay",
            "net pay",
            "salaire",
            "remuneration",
            "traitement",
            "salario",
            "sueldo",
            "nomina",
            "gehalt",
            "lohn",
            "verdienst",
            "einkommen",
            "income",
        ],
    ),
    (
        "health",
        Mask::Nullify,
        &[
            "diagnosis",
            "disability",
            "medical",
            "blood group",
            "blood type",
            "sante",
            "maladie",
            "handicap",
            "salud",
            "enfermedad",
            "discapacidad",
            "krankheit",
            "diagnose",
            "behinderung",
            "gesundheit",
        ],
    ),
    (
        "belief or origin",
        Mask::Nullify,
        &["religion", "ethnicity", "ethnic", "race", "confession", "konfession", "etnia", "ethnie", "tribe"],
    ),
    (
        "family",
        Mask::Nullify,
        &["marital status", "next of kin", "spouse", "etat civil", "estado civil", "familienstand"],
    ),
    (
        "secret",
        Mask::Nullify,
        &[
            "password",
            "passwd",
            "password hash",
            "mot de passe",
            "contrasena",
            "passwort",
            "kennwort",
            "token",
            "secret",
            "api key",
            "pin",
            "otp",
            "totp",
        ],
    ),
    (
        "picture or print",
        Mask::Nullify,
        &["photo", "portrait", "signature", "fingerprint", "biometric", "foto", "firma", "unterschrift"],
    ),
];

/// The words of an identifier, in lower case, without accents: `birthDate`, `BIRTH_DATE` and
/// `birth date` are all `birth`, `date`.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        lower_before = c.is_lowercase() || c.is_ascii_digit();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            c.to_lowercase().for_each(|c| plain(c, word));
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn plain(c: char, word: &mut String) {
    match c {
        'à' | 'á' | 'â' | 'ã' => word.push('a'),
        'è' | 'é' | 'ê' | 'ë' => word.push('e'),
        'ì' | 'í' | 'î' | 'ï' => word.push('i'),
        'ò' | 'ó' | 'ô' | 'õ' => word.push('o'),
        'ù' | 'ú' | 'û' => word.push('u'),
        'ç' => word.push('c'),
        'ñ' => word.push('n'),
        'ä' => word.push_str("ae"),
        'ö' => word.push_str("oe"),
        'ü' => word.push_str("ue"),
        'ß' => word.push_str("ss"),
        c => word.push(c),
    }
}

/// What a column called `name` looks like, and the mask to propose.
pub fn looks_personal(name: &str) -> Option<(&'static str, Mask)> {
    let words = words(name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let is_in = |phrase: &str| {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let joined = phrase.concat();
        words.windows(phrase.len()).any(|window| window == phrase) || words.contains(&joined.as_str())
    };
    let kind = PERSONAL.iter().find(|(_, _, phrases)| phrases.iter().any(|phrase| is_in(phrase)));
    kind.map(|(kind, mask, _)| (*kind, *mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_four_languages_and_all_spellings_look_personal() {
        for (name, kind) in [
            ("email", "e-mail"),
            ("WorkEmail", "e-mail"),
            ("birth_date", "birth"),
            ("birthDate", "birth"),
            ("BIRTHDATE", "birth"),
            ("date_naissance", "birth"),
            ("Geburtsdatum", "birth"),
            ("fecha_de_nacimiento", "birth"),
            ("prénom", "name"),
            ("last_name", "name"),
            ("national_id", "identity document"),
            ("numero_pasaporte", "identity document"),
            ("teléfono", "telephone"),
            ("Straße", "address"),
            ("iban", "bank account"),
            ("monthly_salary", "pay"),
            ("password_hash", "secret"),
        ] {
            assert_eq!(looks_personal(name).map(|found| found.0), Some(kind), "{name}");
        }
    }

    #[test]
    fn words_that_only_contain_such_a_word_do_not() {
        for name in
            ["hotel", "trip_id", "shipping", "zipped", "description", "mailing_list_size", "dept_name", "id"]
        {
            assert_eq!(looks_personal(name), None, "{name}");
        }
    }
}
