/*-------------------------------------------------------------------------
 *
 * output_settings.c
 *		The settings that the text of values depends on, at fixed values: one
 *		value has one text, in every session.
 *
 * A row's key is text, and drivers set TimeZone, DateStyle and the like per
 * session: without this the same row would have two keys, hence two partitions
 * and no order, depending on who wrote it.
 *
 * Set are only those that a table's columns depend on and that differ just
 * now: most tables depend on none, or on TimeZone alone.  They are set by the
 * server's own means, as postgres_fdw does for what it sends, and not by
 * assigning the variables behind them: a cast to json may be a function in
 * SQL, which reads, or sets, the settings themselves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/tupdesc.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "extension/output_settings.h"

/*
 * Declared here since the server's header of locales includes ICU's headers,
 * which who builds an extension need not have.
 */
extern PGDLLIMPORT char *locale_monetary;

/*
 * What functions that we know nothing of may depend on: what sessions differ
 * in.  (Not lc_monetary: nearly all would have to pay for it.)
 */
#define OUTPUT_UNKNOWN \
	(DE_OUTPUT_DATESTYLE | DE_OUTPUT_DATEORDER | DE_OUTPUT_INTERVALSTYLE | \
	 DE_OUTPUT_TIMEZONE | DE_OUTPUT_FLOAT_DIGITS | DE_OUTPUT_BYTEA)

/* for names of relations and the like; temporary ones are shown with their schema, too */
#define OUTPUT_SEARCH_PATH "pg_catalog, pg_temp"

static int	output_settings_of_row(Oid type);
static bool output_has_json_cast(Oid type);
static bool output_in_utc(void);
static void output_set(const char *name, const char *value, int *level);

/*
 * Which settings the text of a type's values depends on.
 *
 * A type that is not the server's own has an output function that we know
 * nothing of, and may have a cast to json in its place.  Those get all that
 * sessions differ in but search_path, without which a function in SQL may find
 * nothing.
 */
int
de_output_settings_of(Oid type)
{
	Oid			element;

	check_stack_depth();
	type = getBaseType(type);
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case NAMEOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
		case JSONOID:
		case JSONBOID:
		case JSONPATHOID:
		case XMLOID:
		case TIMEOID:
		case TIMETZOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
		case MACADDR8OID:
		case BITOID:
		case VARBITOID:
		case TSVECTOROID:
		case TSQUERYOID:
		case OIDOID:
		case TIDOID:
		case XIDOID:
		case XID8OID:
		case CIDOID:
		case PG_LSNOID:
		case PG_SNAPSHOTOID:
		case INT2VECTOROID:
		case OIDVECTOROID:
			return 0;

		case DATEOID:
		case TIMESTAMPOID:
			return DE_OUTPUT_DATESTYLE;
		case TIMESTAMPTZOID:
			return DE_OUTPUT_DATESTYLE | DE_OUTPUT_TIMEZONE;
		case INTERVALOID:
			return DE_OUTPUT_INTERVALSTYLE;
		case FLOAT4OID:
		case FLOAT8OID:
		case POINTOID:
		case LSEGOID:
		case PATHOID:
		case BOXOID:
		case POLYGONOID:
		case LINEOID:
		case CIRCLEOID:
			return DE_OUTPUT_FLOAT_DIGITS;
		case BYTEAOID:
			return DE_OUTPUT_BYTEA;
		case MONEYOID:
			return DE_OUTPUT_MONETARY;

		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGNAMESPACEOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGROLEOID:
		case REGTYPEOID:
			return DE_OUTPUT_NAMES;
	}

	element = get_element_type(type);
	if (OidIsValid(element))
		return de_output_settings_of(element);
	if (type_is_rowtype(type))
		return output_settings_of_row(type);
	if (output_has_json_cast(type))
		return OUTPUT_UNKNOWN;
	switch (get_typtype(type))
	{
		case TYPTYPE_ENUM:
			return 0;
		case TYPTYPE_RANGE:
			return de_output_settings_of(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return de_output_settings_of(get_range_subtype(get_multirange_range(type)));
		default:
			return OUTPUT_UNKNOWN;
	}
}

/*
 * Which settings a composite type depends on: those of its columns.
 */
static int
output_settings_of_row(Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	int			settings = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			settings |= de_output_settings_of(TupleDescAttr(desc, i)->atttypid);
	}
	ReleaseTupleDesc(desc);
	return settings;
}

/*
 * Does a type have a cast to json?  Then row_to_json calls that.
 */
static bool
output_has_json_cast(Oid type)
{
	Oid			function;

	return type >= FirstNormalObjectId &&
		find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, &function) == COERCION_PATH_FUNC;
}

/*
 * Gives these settings their fixed values, where they have others.
 */
int
de_output_fixed_begin(int settings)
{
	int			level = 0;

	if ((settings & DE_OUTPUT_DATEORDER) &&
		(DateStyle != USE_ISO_DATES || DateOrder != DATEORDER_MDY))
		output_set("datestyle", "ISO, MDY", &level);
	else if ((settings & DE_OUTPUT_DATESTYLE) && DateStyle != USE_ISO_DATES)
		output_set("datestyle", "ISO", &level);
	if ((settings & DE_OUTPUT_INTERVALSTYLE) && IntervalStyle != INTSTYLE_POSTGRES)
		output_set("intervalstyle", "postgres", &level);
	if ((settings & DE_OUTPUT_TIMEZONE) && !output_in_utc())
		output_set("timezone", "UTC", &level);
	/* from 1 on a float is written in as many digits as make it the same float */
	if ((settings & DE_OUTPUT_FLOAT_DIGITS) && extra_float_digits < 1)
		output_set("extra_float_digits", "1", &level);
	if ((settings & DE_OUTPUT_BYTEA) && bytea_output != BYTEA_OUTPUT_HEX)
		output_set("bytea_output", "hex", &level);
	if ((settings & DE_OUTPUT_MONETARY) && strcmp(locale_monetary, "C") != 0 &&
		strcmp(locale_monetary, "POSIX") != 0)
		output_set("lc_monetary", "C", &level);
	if (settings & DE_OUTPUT_NAMES)
	{
		if (quote_all_identifiers)
			output_set("quote_all_identifiers", "off", &level);
		if (strcmp(namespace_search_path, OUTPUT_SEARCH_PATH) != 0)
			output_set("search_path", OUTPUT_SEARCH_PATH, &level);
	}
	return level;
}

/*
 * Is the session's time zone UTC, by any name?  "Etc/UTC" is what initdb finds
 * on many servers.
 */
static bool
output_in_utc(void)
{
	const char *name = pg_get_timezone_name(session_timezone);

	return strcmp(name, "UTC") == 0 || strcmp(name, "Etc/UTC") == 0;
}

/*
 * Sets one of them for the nest level, which begins with the first.
 */
static void
output_set(const char *name, const char *value, int *level)
{
	if (*level == 0)
		*level = NewGUCNestLevel();
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/*
 * Restores what de_output_fixed_begin changed.
 */
void
de_output_fixed_end(int level)
{
	if (level != 0)
		AtEOXact_GUC(true, level);
}
